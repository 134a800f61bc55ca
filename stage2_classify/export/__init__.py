"""What a bundle takes from runs: which networks and tasks, the networks as ONNX, and the card.

It knows runs and tensors; it knows nothing of photos, boxes or the detector.
"""
