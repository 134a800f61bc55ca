"""From one file to one upright RGB array. Knows nothing of faces."""
