"""What the system in memory does not do, said in one sentence. Never does anything."""

from __future__ import annotations

from typing import Any, NoReturn


class NotInMemory(NotImplementedError):  # noqa: N818 - named for what it says
    """The real system does this and the one in memory does not."""


def absent(what: str) -> NotInMemory:
    """The error that says so."""
    return NotInMemory(
        f"penstock.client.testing does not do this in memory: {what}. Test it on a real system."
    )


class Absent:
    """Stands where a part of the real system would be; whatever is asked of it is not there."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> NoReturn:
        if attribute.startswith("__"):
            raise AttributeError(attribute)  # as Python itself asks whether there is one
        raise absent(f"{self._name}.{attribute}")


def stand_in(name: str) -> Any:
    """An Absent for where a type is asked for."""
    return Absent(name)
