"""Replacements for classes of other packages: the same calls, answered by this package's detector.

Each file is named after the package that it replaces. They know no files of ours, rows or labels.
"""
