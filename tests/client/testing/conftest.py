"""The fixture of the tests that run in memory and on a real system alike."""

from __future__ import annotations

from support.either_system import running

__all__ = ["running"]
