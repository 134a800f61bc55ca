"""The image pyramid: its levels, how they are cut and packed, and how they are resized.

It knows geometry and pixels; it knows nothing of networks, scores or faces.
"""
