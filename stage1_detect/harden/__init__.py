"""Teach the cascade to see masked faces: masks pasted on faces that it finds bare, and boxes."""
