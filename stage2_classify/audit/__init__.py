"""How much a model leans on the background."""
