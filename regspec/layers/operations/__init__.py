"""The operations that Keras records as layers: one file a family. Axes count the batch as axis 0, as Keras's do."""
