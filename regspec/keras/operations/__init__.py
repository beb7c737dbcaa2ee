"""Operations that Keras recorded as layers, and TensorFlow's functions, as layers of a spec."""
