"""Operations that Keras recorded as layers, and TensorFlow's functions, as entries of a spec."""
