"""Python as text: expressions, statements in lines, imports."""
