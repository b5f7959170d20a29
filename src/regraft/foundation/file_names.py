"""Names of files and folders that are valid on Linux, macOS and Windows alike."""

from __future__ import annotations

import re
import sys

WINDOWS = sys.platform == "win32"

_REFUSED = r'<>:"/\\|?*\x00-\x1f\x7f'
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(?=\s*(\.|$))", re.IGNORECASE)
"""The names of Windows devices. Windows ignores what follows a full stop: `nul.txt` opens the device `nul`."""


def portable_name(text: str, longest: int = 200) -> str:
    """Return ``text`` changed to a name that a file or folder can have on any system.

    Spaces and characters that Windows refuses become hyphens. The name of a Windows device gets a hyphen appended.

    Args:
        text: any text, such as the name of a folder of photos.
        longest: the greatest number of characters in the name.

    Returns:
        The name; empty if no character of ``text`` is left.
    """
    name = re.sub(rf"[{_REFUSED}\s]+", "-", text)
    name = _RESERVED.sub(r"\1-", name, count=1) if _RESERVED.match(name) else name
    return name[:longest].rstrip(". ")


def is_name_on_windows(name: str) -> bool:
    """Return whether Windows accepts a file or folder name unchanged.

    Windows refuses some characters and the names of devices, and drops full stops and spaces at the end of a name.
    """
    return not (re.search(f"[{_REFUSED}]", name) or name.endswith((".", " ")) or _RESERVED.match(name))
