"""From many photos to cache rows and crops: in batches, in threads or on workers."""
