"""Stage 1: from photographs to background-free face crops. It knows nothing of labels."""
