"""Malformed input of many kinds, given to the real command line: each must be refused in one line and change nothing.

`kinds/` has one function for each kind, found by reading the folder; it draws a case, and knows why it is malformed.
"""
