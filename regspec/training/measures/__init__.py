"""What is minimized and measured of a model's outputs: losses, their sum, metrics, and what tells the best epoch."""
