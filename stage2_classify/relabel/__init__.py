"""Finds labels that are probably wrong, and writes a page to review them."""
