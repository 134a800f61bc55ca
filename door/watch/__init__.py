"""`cropfirst watch`: a bundle on a video, a folder of frames or a live camera.

It knows frames, tracks and where events go; it knows nothing of how a face is classified. No torch.
"""
