"""A search for the best values of the parameters that say where they may lie."""
