"""The detector: MTCNN over batches of photos of any size.

It knows arrays and boxes; it knows nothing of files, rows or the cache.
"""
