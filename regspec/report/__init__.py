"""What came out of runs, to look at: an HTML page, single figures, and how a run shows itself in a notebook.

It may import ``modules`` and what that may import; graphlay, matplotlib and Jinja draw. What passes through: the folder
of a run, to a page.
"""
