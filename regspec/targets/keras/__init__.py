"""A network as Keras 3 functional code: what a spec says, in the classes whose names and fields it has."""
