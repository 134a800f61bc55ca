"""From the photos of a crop set to cut-out heads and changed crops.

Knows no networks and no cache.
"""
