"""The search for the best way in which runs vote."""
