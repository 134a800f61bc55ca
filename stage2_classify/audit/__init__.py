"""The audit: how much a model leans on the background."""
