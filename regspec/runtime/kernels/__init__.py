"""Sums of penalties and soft thresholds over many tensors at once, which may lie in pieces on several processes."""
