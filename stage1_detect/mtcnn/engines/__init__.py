"""The engines that run the three networks: PyTorch on any device, or compiled code on the CPU.

They know pixels and raw outputs; they know nothing of thresholds, boxes or NMS.
"""
