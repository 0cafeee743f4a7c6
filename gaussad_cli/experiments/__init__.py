"""Experiments: the steps that a table of the paper needs, their estimated cost, and their execution."""
