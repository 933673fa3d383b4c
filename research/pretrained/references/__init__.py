"""The weights known to load, one file per file of `research/models/`, of the same name."""
