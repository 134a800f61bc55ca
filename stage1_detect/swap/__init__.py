"""The swapped twin of a crop set: its heads in the rooms of other people. It knows no labels."""
