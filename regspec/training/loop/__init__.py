"""A training by Lightning: its steps, epochs and batches, learning rates, averages, where it starts and goes on."""
