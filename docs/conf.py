"""Settings of the documentation site: `make docs` builds it with Sphinx, offline and strictly."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent

project = "pentarch"
author = "the pentarch authors"
copyright = "the pentarch authors, Apache-2.0"
_VERSION = re.search(
    r'VERSION = "([^"]+)"', (ROOT / "framework" / "pentarch" / "_version.py").read_text("utf-8")
)
if _VERSION is None:
    raise ValueError("framework/pentarch/_version.py states no VERSION")
version = release = _VERSION[1]

extensions = ["myst_parser"]
root_doc = "index"
exclude_patterns = ["README.md"]  # the page of this folder; `index.md` includes it
myst_heading_anchors = 3
nitpicky = True

html_theme = "furo"
html_title = f"pentarch {version}"
html_copy_source = False
html_show_sourcelink = False
