"""The parts of a bundle that come from runs: networks and tasks, the ONNX files, and the card.

It knows runs and tensors; it knows nothing of photos, boxes or the detector.
"""
