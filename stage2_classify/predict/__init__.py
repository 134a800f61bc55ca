"""Predicts crops with trained checkpoints, and writes the submission."""
