"""Drawn people: the demo's data set, portraits for tests and pictures. No photograph, no torch."""
