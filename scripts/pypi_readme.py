"""The README as PyPI shows it, made when the package is built.

README.md links to files of the repository by their paths in it, so that its links work in every clone and at every
commit. PyPI shows the README without the repository: there each link becomes an absolute one.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_CODE = re.compile(r"(^```.*?^```|`[^`\n]+`)", re.MULTILINE | re.DOTALL)
_RELATIVE = r"(?![a-z][a-z0-9+.-]*:|//|#)"
_IMAGES = re.compile(rf"(!\[[^\]]*\]\(|<(?:img|source)\b[^>]*?\b(?:src|srcset)=\"){_RELATIVE}([^)\s\"]+)")
_LINKS = re.compile(rf"(\]\(|^\[[^\]]+\]:\s+|<a\b[^>]*?\bhref=\"){_RELATIVE}([^)\s\"]+)", re.MULTILINE)
"""What stands before a target, and the target, if it is a path: in Markdown and in HTML."""


def absolute_links(markdown: str, repository: str) -> str:
    """Return a Markdown text whose links to files of a GitHub repository are absolute; code in it stays as it is.

    Args:
        markdown: the text of a page at the root of the repository.
        repository: the address of the repository, without a slash at its end.
    """
    parts = _CODE.split(markdown)
    for place in range(0, len(parts), 2):  # between them stands code
        # Under `raw` GitHub serves a file itself, and under `blob` a page about it. An image may stand within a link.
        images = _IMAGES.sub(rf"\1{repository}/raw/HEAD/\2", parts[place])
        parts[place] = _LINKS.sub(rf"\1{repository}/blob/HEAD/\2", images)
    return "".join(parts).replace("/HEAD/./", "/HEAD/")


class ReadmeHook(MetadataHookInterface):  # type: ignore[misc]
    """Gives the package's metadata the README with absolute links to the repository under `Source` in its URLs."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``."""
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        made = absolute_links(text, metadata["urls"]["Source"])
        metadata["readme"] = {"content-type": "text/markdown", "text": made}
