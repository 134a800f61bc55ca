"""The door: what runs an exported bundle, on photos, streams, a server and a page.

It knows the bundle alone: no stage, no data set. No torch.
"""
