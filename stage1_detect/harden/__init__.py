"""Training the detector to find masked faces, with a teacher and pasted masks."""
