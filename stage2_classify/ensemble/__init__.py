"""Searches the best way to combine the votes of runs."""
