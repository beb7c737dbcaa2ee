"""From Keras: its arrays to torch's parameters."""
