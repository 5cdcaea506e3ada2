"""What every aggregate of every service can come to: erased, or archived. Never any logic.

Each service has the same messages under its own name: `ERASE["jobs"]` is the command
`penstock.jobs.erase.v1`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import msgspec

from penstock.contracts.envelope import Time, command, event
from penstock.contracts.subjects import SERVICES


class Erase(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Remove everything that is known of the aggregate, for good; only that it was, and why it
    was erased, stays.
    """

    reason: str


class Archive(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Move finished aggregates to the archive: `before` has for each final state the time before
    which the last event must be. One command makes one segment, of as many as fit.
    """

    before: dict[str, Time]


class Archiving(msgspec.Struct, frozen=True, kw_only=True):
    """What a command to archive came to: the segment, and how many aggregates it holds.

    `more`: others are due, for another command.
    """

    segment: str | None = None
    aggregates: int = 0
    more: bool = False


class Erased(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything before this was removed. The id is never used again.

    `sequences` are the stream sequences where the events stood.
    """

    reason: str
    sequences: tuple[int, ...] = ()


class Archived(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The events before this were moved to the object `segment` of the object store.

    What comes after begins anew. `ended` is the time of the last of them; `sequences` are the
    stream sequences where they stood; `commands` the keys of the commands that caused them, eight
    bytes each, so that none has a second effect.
    """

    segment: str
    ended: Time
    sequences: tuple[int, ...] = ()
    commands: bytes = b""


S = TypeVar("S", bound=msgspec.Struct)


def _of_each(
    declare: Callable[[str, str], Callable[[type[S]], type[S]]], name: str, struct: type[S]
) -> dict[str, type[S]]:
    """`struct` once for each service, declared as that service's `name`."""
    return {service: declare(service, name)(_copy(service, struct)) for service in SERVICES}


def _copy(service: str, struct: type[S]) -> type[S]:
    copy = msgspec.defstruct(
        f"{service.capitalize()}{struct.__name__}",
        [],
        bases=(struct,),
        module=__name__,
        namespace={"__doc__": struct.__doc__},
        frozen=True,
        kw_only=True,
        omit_defaults=True,
    )
    return cast("type[S]", copy)


ERASE = _of_each(command, "erase", Erase)
ARCHIVE = _of_each(command, "archive", Archive)
ERASED = _of_each(event, "erased", Erased)
ARCHIVED = _of_each(event, "archived", Archived)
