"""The image pyramid: its levels, how they are cut and packed, and how they are resized."""
