"""What came out of runs, to look at: an HTML page, single figures, and how a run shows itself in a notebook."""
