"""Measurements side by side, each a command that prints its figures."""
