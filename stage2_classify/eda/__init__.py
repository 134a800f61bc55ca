"""A data set before training: counts, faces, light, near-duplicates."""
