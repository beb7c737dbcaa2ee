"""A port beside its original: what is compared, and what comes of it."""

TOLERANCE = 2e-4  # the largest relative error of a port that passes, where nobody says another
