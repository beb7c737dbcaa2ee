"""The formatter: a spec's text in its canonical form.

`tree` reads a text with its comments, `canonical` rewrites what has several forms, `printing` lays it out.
"""

from regspec.views.formatting.printing import formatted as formatted
