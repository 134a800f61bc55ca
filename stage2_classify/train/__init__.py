"""Training: a run, its folds, their epochs."""
