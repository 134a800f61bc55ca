"""Many training runs: recipes compared on the same folds, settings searched for."""
