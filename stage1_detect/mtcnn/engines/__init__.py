"""What runs the three networks: PyTorch on any device, or compiled code on the CPU."""
