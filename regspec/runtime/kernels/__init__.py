"""Sums of penalties over many tensors at once, and over tensors that lie in pieces on several processes."""
