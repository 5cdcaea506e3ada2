"""`ps.changes`: say that an entity of the application's changed. Never invalidates by itself."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from opentelemetry.trace import SpanKind

from penstock.client.session import Session, present_cause
from penstock.contracts.changes import EntityChanged, tags_of
from penstock.contracts.envelope import encode, wrap
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.subjects import MSG_ID, token
from penstock.infra.sender import Cause
from penstock.infra.storing import store
from penstock.infra.tracing import message_span, traceparent

Published = Callable[[Sequence[str], int], None]


class Changes:
    """The application's change events. `published` is told the tags and sequence of each."""

    def __init__(self, session: Session, published: Published) -> None:
        self._session = session
        self._published = published

    async def publish(
        self,
        entity: str,
        id: str,
        *,
        tags: Sequence[str] = (),
        version: int | None = None,
        change_id: str | None = None,
    ) -> int:
        """Say that `entity` `id` changed, after it did; its sequence in the stream of changes.

        Every cache entry tagged `<entity>`, `<entity>:<id>` or one of `tags` is let go: by this
        client's next read, and within milliseconds by all others'; later if the cache service is
        down. `version` is the application's own. Publishing again with the same `change_id`, as
        after a Timeout, has no second effect. Raises Unavailable, Timeout or InvalidMessage.
        """
        if isinstance(tags, str):
            raise InvalidMessage(f"Tags are a list: write [{tags!r}].")
        change = EntityChanged(entity=entity, id=id, tags=tuple(tags), version=version)
        concerned = tags_of(change)
        for tag in concerned:
            token(tag)
        sequence = await self._publish(change, change_id or uuid.uuid4().hex)
        self._published(concerned, sequence)
        return sequence

    async def _publish(self, change: EntityChanged, change_id: str) -> int:
        bus = self._session.bus
        subject = bus.subjects.change(change.entity, change.id)
        cause = present_cause() or Cause(correlationid=change_id)
        with message_span("send", subject, kind=SpanKind.PRODUCER, id=change_id):
            envelope = wrap(
                change,
                id=change_id,
                subject=f"{change.entity}:{change.id}",
                time=datetime.now(UTC),
                correlationid=cause.correlationid,
                cause=cause.event,
                actor=cause.actor or self._session.actor,
                traceparent=traceparent(),
            )
            ack = await store(
                bus,
                bus.subjects.stream("changes"),
                subject,
                encode(envelope),
                {MSG_ID: change_id},
                timeout=self._session.timeout,
            )
        return ack.seq
