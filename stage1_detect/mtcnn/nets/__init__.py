"""The three networks P-Net, R-Net and O-Net, and their weights."""
