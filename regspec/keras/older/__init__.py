"""Files of Keras 1 and 2 in the form of Keras 3: their configs, and the names of their arrays."""
