"""SavedModels: what TensorFlow has written (`make.py`), and what it never would (`writing.py`)."""
