"""The application's own change events: "user 1 changed". Never any I/O."""

from __future__ import annotations

import msgspec

from penstock.contracts.envelope import event


@event("changes", "entity_changed")
class EntityChanged(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An entity of the application changed; caches let go of what depends on it.

    Concerns every cache entry tagged `<entity>`, `<entity>:<id>` or one of `tags`.
    `version` is the application's own version of the entity, if it has one.
    """

    entity: str
    id: str
    tags: tuple[str, ...] = ()
    version: int | None = None
