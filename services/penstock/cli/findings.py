"""What an examination finds. Never examines anything itself."""

from __future__ import annotations

from typing import Literal

import msgspec


class Finding(msgspec.Struct, frozen=True):
    """One thing looked at: how it is, and if it is not well, what to do."""

    result: Literal["ok", "warn", "fail"]
    what: str
    text: str
