"""What validation promised of some runs, what swapped rooms say, and what a new place gave."""
