"""Trains many runs: compares recipes on the same folds, and searches settings."""
