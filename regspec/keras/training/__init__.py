"""What a model was compiled with, in the words of a training file, and what of it these words can't say."""
