"""Masks and other objects drawn onto faces. Knows landmarks; knows no networks."""
