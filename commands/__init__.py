"""Commands that need both stages, and what all commands share: DATA, its results, its cache.

It may know every room; no room but the commands of a stage imports it.
"""
