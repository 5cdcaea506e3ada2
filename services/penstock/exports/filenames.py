"""Names for files that anybody may save anywhere. Never trusts a title.

Header: RFC 6266 with the extended values of RFC 8187.
"""

from __future__ import annotations

import re
import unicodedata
from urllib.parse import quote

LONGEST = 200  # bytes of UTF-8: file systems take 255, and a browser may add ` (1)`
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')  # by Windows; the slash by all
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)", re.IGNORECASE)
_ATTR_CHAR = "!#$&+-.^_`|~"  # RFC 8187, beside letters and digits


def safe_filename(title: str, suffix: str) -> str:
    """`title` with `suffix`, as a file name on Linux, macOS and Windows alike.

    What separates paths, is forbidden somewhere or cannot be seen (control and direction
    characters) is taken out; a name that is hidden, reserved or empty is changed.
    """
    # A space for line breaks before the invisible go: words stay apart.
    text = " ".join(unicodedata.normalize("NFC", title).split())
    text = "".join(c for c in text if unicodedata.category(c)[0] != "C")
    stem = _cut(_FORBIDDEN.sub("_", text).lstrip(". "), LONGEST - len(suffix.encode()))
    stem = stem.rstrip(". ") or "export"
    return f"_{stem}{suffix}" if _DEVICES.match(stem) else f"{stem}{suffix}"


def content_disposition(filename: str) -> str:
    """The header that makes a browser save under `filename`, with a plain name for old ones."""
    plain = unicodedata.normalize("NFKD", filename).encode("ascii", "ignore").decode()
    plain = re.sub(r'[^ -~]|["\\%]', "_", plain)
    extended = quote(filename, safe=_ATTR_CHAR)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}"


def _cut(text: str, longest: int) -> str:
    """As much of `text` as fits into `longest` bytes of UTF-8, in whole characters."""
    return text.encode()[:longest].decode(errors="ignore")
