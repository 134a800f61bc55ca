"""Combines the probabilities of several models into one prediction. Knows no models; no torch."""
