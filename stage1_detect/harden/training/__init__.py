"""Samples, targets, losses and steps of the detector's training."""
