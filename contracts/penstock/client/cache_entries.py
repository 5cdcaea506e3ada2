"""Cache entries and the heads of tags in JetStream: reads, and writes that cannot undo newer ones.

Knows no factory and no value, and never decides what an unreachable cache means to the caller.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Collection, Coroutine, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from penstock.contracts.cache import (
    MAX_ENTRY,
    SERVICE,
    Entry,
    TagInvalidated,
    entry_stream,
    entry_subject,
)
from penstock.contracts.envelope import decode, unwrap
from penstock.contracts.errors import TooLarge, Unavailable
from penstock.contracts.subjects import EXPECTED, TTL, untoken
from penstock.infra.bus import Bus, Stored, StreamError
from penstock.infra.event_log import WRONG_LAST_SEQUENCE

log = logging.getLogger(__name__)

T = TypeVar("T")
PATIENCE = 0.5  # seconds for one request: a cache that is slower than this is of no use
COOL_DOWN = 1.0  # seconds without further attempts after one was not answered
DELETED_FOR = 3600.0  # seconds that a deletion is remembered, against fills begun before it

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Entry).decode


class Found(msgspec.Struct, frozen=True):
    """What stands under a key: an entry, or None; `revision` is its sequence, 0 for nothing."""

    entry: Entry | None
    revision: int


class Head(msgspec.Struct, frozen=True):
    """The last invalidation of a tag: its sequence, 0 for none, and the message itself."""

    sequence: int = 0
    message: Stored | None = None

    @property
    def reflects(self) -> int:
        """The highest sequence of an application's change that the tag reflects."""
        if self.message is None:
            return 0
        event = unwrap(decode(self.message.data))
        return event.reflects if isinstance(event, TagInvalidated) else 0


Heads = Mapping[str, Head]


class Entries:
    """The bucket of entries and the event stream of tags, over one connection.

    Every call but `remove` raises Unavailable at once while the connection is away, and for a
    second after a request was not answered: who asks has something better to do than to wait.
    """

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._stream = entry_stream(bus.subjects)
        self._events = bus.subjects.event_stream(SERVICE)
        self._event_prefix = bus.subjects.event(SERVICE, "_")[:-1]
        self._closed_until = 0.0

    async def find(self, key: str) -> Found:
        """The entry of a key, expired or not. Raises Unavailable."""
        subject = entry_subject(self._bus.subjects, key)
        found = await self._direct_get(self._stream, {"last_by_subj": subject})
        if not found:
            return Found(None, 0)
        return Found(_entry(found[0], key), found[0].sequence)

    async def heads(self, tags: Collection[str]) -> dict[str, Head]:
        """The head of each tag, in one request. Raises Unavailable."""
        if not tags:
            return {}
        heads = dict.fromkeys(tags, Head())
        for message in await self._direct_get(self._events, self._last_of(tags)):
            tag = untoken(message.subject.removeprefix(self._event_prefix))
            heads[tag] = Head(message.sequence, message)
        return heads

    async def put(self, entry: Entry, ttl: float | None, *, after: int | None = None) -> bool:
        """Store an entry for `ttl` seconds; False if its key's revision is not `after` any more.

        Raises Unavailable, StreamError, or TooLarge above 1 MB.
        """
        if ttl is not None:
            entry = replace(entry, deadline=time.time() + ttl)
        body = _encode(entry)
        if len(body) > MAX_ENTRY:
            raise TooLarge(
                f"The cache entry {entry.key!r} has {len(body):,} bytes, more than {MAX_ENTRY:,}; "
                "cache a part of it, or its name in the object store.",
                key=entry.key,
            )
        headers = {} if ttl is None else _lifetime(ttl)
        if after is not None:
            headers[EXPECTED] = str(after)
        return await self._publish(entry.key, body, headers)

    async def remove(self, key: str) -> None:
        """Remove an entry, and keep fills from storing what was computed before.

        The deletion stays for an hour, or a fill that found nothing before it would not notice.
        """
        subject = entry_subject(self._bus.subjects, key)
        headers = {"KV-Operation": "DEL", **_lifetime(DELETED_FOR)}
        await self._bus.publish_acked(subject, b"", headers)

    def _last_of(self, tags: Collection[str]) -> dict[str, object]:
        subjects = [self._bus.subjects.event(SERVICE, tag) for tag in tags]
        # One literal subject is answered by one message, several by one more that ends them.
        return {"last_by_subj": subjects[0]} if len(subjects) == 1 else {"multi_last": subjects}

    async def _direct_get(self, stream: str, request: dict[str, object]) -> list[Stored]:
        try:
            found = await self._soon(self._bus.direct_get(stream, request, timeout=PATIENCE))
        except StreamError as error:
            raise Unavailable(f"The cache cannot be read: {error}") from error
        if "multi_last" in request and found and found[-1].pending:
            raise Unavailable("The server gave only some of the tags' heads.")
        return found

    async def _publish(self, key: str, body: bytes, headers: dict[str, str]) -> bool:
        subject = entry_subject(self._bus.subjects, key)
        try:
            await self._soon(self._bus.publish_acked(subject, body, headers, timeout=PATIENCE))
        except StreamError as error:
            if error.err_code in WRONG_LAST_SEQUENCE:
                return False
            raise
        return True

    async def _soon(self, request: Coroutine[Any, Any, T]) -> T:
        now = asyncio.get_running_loop().time
        if now() < self._closed_until or not self._bus.nc.is_connected:
            request.close()
            raise Unavailable("The cache cannot be reached at the moment.")
        try:
            return await request
        except Unavailable as error:
            if now() >= self._closed_until:
                log.warning("the cache is passed over for %s s: %s", COOL_DOWN, error)
            self._closed_until = now() + COOL_DOWN
            raise


def _entry(message: Stored, key: str) -> Entry | None:
    """The entry in a message; None for a deletion, an expired one, or another key's."""
    if not message.data:  # a marker, which says in its headers what of
        return None
    try:
        entry = _decode(message.data)
    except msgspec.DecodeError as error:
        log.warning("what is stored for the cache key %r is no entry: %s", key, error)
        return None
    return entry if entry.key == key else None


def _lifetime(seconds: float) -> dict[str, str]:
    """The server counts whole seconds, from one on; the entry's deadline is exact."""
    return {TTL: str(max(1, math.ceil(seconds)))}
