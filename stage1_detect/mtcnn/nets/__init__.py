"""The three networks P-Net, R-Net and O-Net, and their weights.

They know tensors; they know nothing of photos, boxes or the pyramid.
"""
