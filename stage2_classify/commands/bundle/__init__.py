"""The making of a bundle from runs: stage 1's detector and stage 2's networks, checked together.

Knows both stages, like every command; knows nothing of options and consoles.
"""
