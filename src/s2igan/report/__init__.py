"""A run directory becomes one HTML page that needs nothing else: every picture, sound and style is inside it.

`page.html` is the page as a Jinja2 template; `page` reads what training and evaluation left and fills it, `charts` and
`embedded` bring that into the form that the page shows. Nothing is computed anew.
"""

from s2igan.report.page import headlines, write_report

__all__ = ["headlines", "write_report"]
