"""The docs as a site: Sphinx reads this file. Built by scripts/docs."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

project = "regraft"
author = "the regraft authors"
html_title = "regraft"
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["**/__pycache__"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
smartquotes = False  # two hyphens before an option stay two hyphens
default_role = "code"  # a docstring's single backticks
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_use_ivar = True
suppress_warnings = ["ref.python"]  # options of two classes may have one name
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]  # types of other packages, and names that are not public

ROOT = Path(__file__).parents[1]
MOVED = {"benchmarks/README.md": "/benchmarks.md", "README.md": "/index.md", "README.ko.md": "/index.md"}
"""Pages outside of docs/, and where the site has them."""

_LINK = re.compile(r"(\]\()((?:\.\./)+[^)#\s]+)")


def _within_the_site(_app: Any, docname: str, source: list[str]) -> None:
    """Turn links to pages outside of docs/ into links to where the site has them."""
    folder = (ROOT / "docs" / docname).parent

    def target(found: re.Match[str]) -> str:
        path = (folder / found[2]).resolve()
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        return found[1] + MOVED.get(name, found[2])

    source[0] = _LINK.sub(target, source[0])


def setup(app: Any) -> None:
    """Connect the change of links."""
    app.connect("source-read", _within_the_site)
