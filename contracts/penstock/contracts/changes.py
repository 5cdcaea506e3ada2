"""The application's own change events: "user 1 changed", and what they concern. Never any I/O."""

from __future__ import annotations

import msgspec

from penstock.contracts.envelope import event

SERVICE = "changes"


@event(SERVICE, "entity_changed")
class EntityChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entity of the application changed; caches let go of what depends on it.

    Concerns every cache entry tagged `<entity>`, `<entity>:<id>` or one of `tags`.
    `version` is the application's own version of the entity, if it has one.
    """

    entity: str
    id: str
    tags: tuple[str, ...] = ()
    version: int | None = None


def tags_of(change: EntityChanged) -> tuple[str, ...]:
    """The tags that a change concerns, each once: `user`, `user:1` and those it names."""
    named = (change.entity, f"{change.entity}:{change.id}", *change.tags)
    return tuple(dict.fromkeys(named))
