"""Experiments as data: what a table of the paper needs, how long it takes, and doing it."""
