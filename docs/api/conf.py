"""Sphinx: the API, object by object, from its docstrings. `make docs` builds it, and every warning is an error."""

from s2igan import __version__

project = "s2igan"
author = "the s2igan developers"
release = __version__
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_default_options = {"members": True, "show-inheritance": True}
html_theme = "alabaster"
html_theme_options = {"description": "Spoken descriptions to images", "fixed_sidebar": True}
html_show_sphinx = False
