"""A model back in Keras: its file, written without Keras."""
