"""Sphinx: the pages of this folder as one site. `make docs` builds it; a warning is an error."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = re.search(r'^version = "(.+)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)
assert VERSION is not None

project = "pywebtransport-native"
author = "the pywebtransport-native contributors"
project_copyright = author
release = VERSION[1]

extensions = ["myst_parser"]
nitpicky = True
# Headings are the anchors, as on a code host; a link to one that is not there is a warning.
myst_heading_anchors = 4

html_theme = "furo"
html_title = f"{project} {release}"
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
