"""Sphinx configuration of the documentation site; ``make docs`` builds it into build/docs."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

import pynn

project = "pynn"
author = "The pynn authors"
version = release = pynn.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_parser",
    "command_line",
    "formulas",
    "repository_links",
]
exclude_patterns = ["_extensions", "_templates"]
templates_path = ["_templates"]
# Every reference in a docstring must resolve, except to names that other projects document.
nitpicky = True
nitpick_ignore_regex = [("py:.*", r"(matplotlib|numpy|scipy|sklearn)\..*")]

# Markdown: headings get anchors as on a repository page.
myst_heading_anchors = 3
# "repository" is the scheme of repository_links.
myst_url_schemes = ("http", "https", "mailto", "repository")
myst_enable_extensions = ["colon_fence", "dollarmath"]

# The API reference. Docstrings state types in the field's words ("array (n, n_in)"), which are not
# names that could be linked.
autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
numpydoc_validation_checks: set[str] = set()

html_math_renderer = "mathml"
html_theme = "pydata_sphinx_theme"
html_title = f"pynn {release}"
html_copy_source = False
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_theme_options = {
    "show_prev_next": False,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
}
