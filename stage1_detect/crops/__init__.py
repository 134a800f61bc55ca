"""One photo and one box to one crop. Knows no networks and no cache."""
