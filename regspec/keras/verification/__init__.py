"""A port beside its original: what is compared, and what comes of it."""
