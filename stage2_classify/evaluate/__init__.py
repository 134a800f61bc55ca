"""Scores and error analysis of predictions, as tables and pictures."""
