"""Tools for every room: errors, files, locks, hashes, workers, console lines.

It knows no photo, crop or label, and importing it imports no torch.
"""
