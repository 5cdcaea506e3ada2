"""What a tag is: state, `decide` and `evolve`. Pure: time and ids arrive as data."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from penstock.contracts.cache import InvalidateTag, TagInvalidated, TagState
from penstock.contracts.changes import EntityChanged, tags_of
from penstock.contracts.envelope import Envelope, wrap
from penstock.infra.deciding.decider import Context


def decide(
    state: TagState | None, command: msgspec.Struct, context: Context
) -> Sequence[msgspec.Struct]:
    """The event that `command` causes: an invalidation is never refused."""
    if not isinstance(command, InvalidateTag):
        raise TypeError(f"not a command of cache: {type(command).__name__}")
    # Several instances apply changes, and not in their order: what a tag reflects only grows.
    reflects = max(command.change, state.reflects if state else 0)
    return [TagInvalidated(reason=command.reason, cause=command.cause, reflects=reflects)]


def evolve(state: TagState | None, event: msgspec.Struct, envelope: Envelope) -> TagState:
    """The state after `event`. It holds without the events before, of which only some are kept."""
    if not isinstance(event, TagInvalidated):
        raise TypeError(f"not an event of cache: {type(event).__name__}")
    return TagState(
        id=envelope.subject,
        count=envelope.version,
        reason=event.reason,
        cause=event.cause,
        reflects=event.reflects,
        invalidated=envelope.time,
    )


def invalidations(envelope: Envelope, change: EntityChanged, sequence: int) -> list[Envelope]:
    """The commands that a change stored at `sequence` causes, one for each tag that it concerns.

    The same change gives the same command ids, so that a second delivery has no second effect.
    """
    reason = f"{change.entity} {change.id} changed"
    if change.version is not None:
        reason += f" to version {change.version}"
    return [
        wrap(
            InvalidateTag(reason=reason, cause=envelope.id, change=sequence),
            id=f"{envelope.id}:{tag}",
            subject=tag,
            time=envelope.time,
            correlationid=envelope.correlationid,
            cause=envelope,
            actor=envelope.actor,
            traceparent=envelope.traceparent,
        )
        for tag in tags_of(change)
    ]
