"""How many known faces a detector finds, and the report of that."""
