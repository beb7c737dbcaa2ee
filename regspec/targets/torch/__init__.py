"""A network as a torch module: which modules and expressions compute it, and the text of their class."""
