"""What is said of a training: its options, of outputs and columns too, on the command line and in training files."""
