"""Scores, calibration, confidence intervals and their charts. Knows class numbers; no torch."""
