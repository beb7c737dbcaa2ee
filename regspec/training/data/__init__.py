"""Data to train on: bundled sets, NumPy files, tables, folders of images, or a function of the user's."""

from regspec.training.data.examples import Data, Examples, class_weights
from regspec.training.data.loading import load_data

__all__ = ["Data", "Examples", "class_weights", "load_data"]
