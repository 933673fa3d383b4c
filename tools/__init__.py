"""Commands for developers, each with its use in its docstring."""
