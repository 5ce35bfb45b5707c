"""Sphinx's settings. ``build.py`` assembles the pages beside a copy of this file."""

from __future__ import annotations

project = "meshtls"
author = "meshtls authors"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]
html_theme = "furo"
html_title = "meshtls"
html_show_sphinx = False
html_show_copyright = False
html_copy_source = False
html_show_sourcelink = False
pygments_style = "friendly"
pygments_dark_style = "monokai"
# Console blocks of the pages have outputs that no lexer knows.
suppress_warnings = ["misc.highlighting_failure"]
