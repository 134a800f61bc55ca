"""Backbones, heads and losses. Knows tensors; knows nothing of files of a run."""
