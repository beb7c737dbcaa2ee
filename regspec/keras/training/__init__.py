"""What a model was compiled with, as torch code."""
