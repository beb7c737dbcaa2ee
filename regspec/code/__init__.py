"""Values that the stages hand on: Python code as data, tensors by their shapes, orders of axes. It imports nothing.

What passes through: an expression over tensors, such as ``self.conv(x)``, from a layer to the text that is printed.
"""
