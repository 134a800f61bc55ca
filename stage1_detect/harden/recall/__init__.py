"""Recall and false positives of a detector on known faces, and the report of them."""
