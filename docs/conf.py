"""The documentation as a site: `make docs` builds it and fails on a link that leads nowhere."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools import docs_site

project = "Spillway"
author = "The Spillway authors"
project_copyright = "The Spillway authors, Apache-2.0"
extensions = ["myst_parser", "sphinx_copybutton"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["conf.py"]

# Anchors as GitHub makes them, so that a link holds in both places.
myst_heading_anchors = 4
# `$ ` is a prompt: the button copies what follows it, without the output.
copybutton_prompt_text = "$ "

html_theme = "furo"
html_title = "Spillway"
html_logo = html_favicon = "images/icon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {
    "source_repository": "https://github.com/spillway-dev/spillway/",
    "source_branch": "main",
    "source_directory": "docs/",
    "light_css_variables": {"color-brand-primary": "#0f766e", "color-brand-content": "#0f766e"},
    "dark_css_variables": {"color-brand-primary": "#2dd4bf", "color-brand-content": "#2dd4bf"},
}
html_use_index = False
pygments_style = "friendly"
pygments_dark_style = "monokai"


def _read(app: Any, name: str, content: list[str]) -> None:
    """Links out of docs/ lead to the repository; the index carries the navigation."""
    content[0] = docs_site.outward(content[0], Path(app.srcdir) / f"{name}.md")
    if name == "index":
        content[0] += docs_site.table_of_contents()


def setup(app: Any) -> None:
    """Sphinx calls this."""
    app.connect("source-read", _read)
