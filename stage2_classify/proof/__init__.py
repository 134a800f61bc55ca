"""The proof: scores of runs out of fold, in swapped rooms, and in a new place."""
