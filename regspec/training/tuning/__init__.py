"""A search for the best values of a spec's parameters, those that have a search."""
