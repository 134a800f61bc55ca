"""Faces as arrays: boxes, the main face, crops and changed views of a photo, by NumPy and OpenCV.

Stage 1 and the door share it, so that a crop is the same pixels in both. It knows no networks,
files or configs, and importing it imports no torch and no pydantic.
"""
