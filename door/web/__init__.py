"""The page that runs a bundle in the browser: its static files, and how they become a folder.

Knows a bundle as files with a manifest; knows nothing of networks, of pixels or of a server. The
page's own code is JavaScript, in static/: it needs no build step. No torch.
"""
