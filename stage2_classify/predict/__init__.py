"""Predictions of checkpoints on crops, and the submission."""
