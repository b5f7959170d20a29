"""The licence of a network of the Hugging Face Hub, as the head of its model card names it.

In: the model card (README.md) of a repository. Out: the name of the licence, and a warning unless it is an open one.
Why: weights may be used for less than the code that runs them, and a run carries its weights' licence with it.
Surprise: a licence is only called open if its identifier is known here; all others are warned of.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from regraft.foundation.documents import MEBIBYTE, DamagedError, require_regular

UNKNOWN = "unknown"
_MOST_BYTES = 4 * MEBIBYTE
_MOST_LETTERS = 200  # of a name or an address
_RESTRICTED = re.compile(r"(^|[-_ ])(nc|amlr|research|non-?commercial)([-_ ]|$)", re.IGNORECASE)
"""What the names of licences have in them that forbid commercial use: cc-by-nc-4.0, apple-amlr (research only)."""

_OPEN = {
    name.lower(): name
    for name in (
        *("AFL-3.0", "AGPL-3.0", "Apache-2.0", "Artistic-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSD-3-Clause-Clear"),
        *("BSL-1.0", "CC-BY-2.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0", "CC0-1.0"),
        *("CDLA-Permissive-1.0", "CDLA-Permissive-2.0", "ECL-2.0", "EPL-2.0", "EUPL-1.1", "EUPL-1.2", "GPL-2.0"),
        *("GPL-3.0", "ISC", "LGPL-2.1", "LGPL-3.0", "MIT", "MIT-0", "MPL-2.0", "MS-PL", "NCSA", "OSL-3.0", "PDDL"),
        *("PostgreSQL", "Unlicense", "WTFPL", "Zlib"),
    )
}
"""The SPDX identifiers of licences that allow commercial use, by the identifier that the Hub has for them."""


@dataclass(frozen=True, slots=True)
class Licence:
    """The licence of a network.

    Attributes:
        name: the SPDX identifier if the licence is a known open one, else the name in the model card; or ``unknown``.
        page: where to read it.
    """

    name: str
    page: str

    @classmethod
    def of(cls, card: Path | None, page: str) -> Self:
        """Return the licence that a model card names.

        Args:
            card: the model card, or None if there is none.
            page: the address of the repository's page.
        """
        head = _head(card) if card else {}
        named = head.get("license")
        name = _text(named[0] if isinstance(named, list) and named else named) or UNKNOWN
        if name.lower() == "other":
            name = _text(head.get("license_name")) or name
        link = _text(head.get("license_link"))
        return cls(_OPEN.get(name.lower(), name), link if link.startswith("https://") else page)

    @property
    def warning(self) -> str:
        """What a user must know of the licence before using the weights, in words; empty for an open licence."""
        if self.name in _OPEN.values():
            return ""
        if self.name == UNKNOWN:
            return f"the licence of its weights is unknown; read {self.page}"
        if _RESTRICTED.search(self.name):
            return f"the licence of its weights, {self.name}, does not allow commercial use; read {self.page}"
        return f"the licence of its weights, {self.name}, has terms of its own; read {self.page}"


def _head(card: Path) -> dict[str, Any]:
    """Return the values at the head of a model card; none if it cannot be read."""
    import huggingface_hub
    import yaml

    try:
        require_regular(card, _MOST_BYTES)
        return dict(huggingface_hub.metadata_load(card) or {})
    except (DamagedError, OSError, ValueError, RecursionError, yaml.YAMLError):
        return {}


def _text(value: Any) -> str:
    """Return a value of a model card if it is a text of one short line, else an empty text."""
    return value if isinstance(value, str) and value.isprintable() and len(value) <= _MOST_LETTERS else ""
