"""The laws this project holds its own parts to, importable by people who bring parts of their own."""
