"""The run-time type check that the tests put around every function of `research`."""

from beartype import BeartypeConf, beartype

# An int where a float is annotated is fine, as it is for Python's own type checkers (PEP 484).
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
