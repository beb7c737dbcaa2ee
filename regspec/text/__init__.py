"""Text in and out: files, YAML as plain data that knows its places, and problems with their places. It imports nothing.

What passes through: the text of a file, to a `Document`; a fault of any stage, to the lines that a user reads.
"""
