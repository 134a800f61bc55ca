"""How the probabilities of several models become one answer. Knows no models; no torch."""
