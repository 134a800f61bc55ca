"""The page that runs a bundle in the browser: its static files, and how they become a folder.

Knows a bundle as files with a manifest; knows nothing of networks, of pixels or of a server. The
code is JavaScript, in static/, and needs no build step. review/ has the page that labels crops,
which `serve` alone shows. No torch.
"""
