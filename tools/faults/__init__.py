"""Faults injected into short sweeps, and what becomes of their results; `python -m tools.faults` (see `__main__`)."""
