"""What time it is for who asks a view: the machine's, or the one that a test says. Never waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime

_said: ContextVar[datetime | None] = ContextVar("penstock_clock", default=None)


def now() -> datetime:
    """The present moment, in UTC."""
    return _said.get() or datetime.now(UTC)


@contextmanager
def saying(moment: datetime) -> Iterator[None]:
    """Inside, in this thread, it is that `moment`."""
    token = _said.set(moment)
    try:
        yield
    finally:
        _said.reset(token)
