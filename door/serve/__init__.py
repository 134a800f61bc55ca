"""`cropfirst serve`: a bundle behind HTTP and WebSockets, with limits on everything that comes in.

It knows requests and answers; it knows nothing of how a face is classified. An upload is never
written to disk, and no request names a file or an address. No torch.
"""
