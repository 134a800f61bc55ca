"""From crops in the cache to batches: folds, sampling, augmentation, mixing."""
