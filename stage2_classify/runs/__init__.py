"""The folder of a training run: checkpoints, tables, out-of-fold predictions."""
