"""Stage 2: from crops to labels. It never opens a photograph."""
