"""Calibrates sets of classes that contain the true one at a chosen error rate."""
