"""The commands that need stage 2, and what all commands share: DATA, its results, its cache.

A command may use both stages.
"""
