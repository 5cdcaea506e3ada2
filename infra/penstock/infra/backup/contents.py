"""Reads all messages of a stream, digests them, and compares a copy with its original.

By Direct Get, in portions, so that neither memory nor the server's patience is strained. Never
changes anything.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec

from penstock.contracts.subjects import TTL
from penstock.infra.backup.manifest import BackupError, Contents, Tell
from penstock.infra.bus import Bus, Stored, StreamError
from penstock.infra.event_log import READ_BATCH, READ_BYTES

ADDED = {  # by the server, to what it gives out
    "Nats-Stream",
    "Nats-Subject",
    "Nats-Sequence",
    "Nats-Num-Pending",
    "Nats-Last-Sequence",
    "Nats-UpTo-Sequence",
}
NO_MESSAGE = 10037
TOLD_EVERY = 1000  # messages

_encode = msgspec.msgpack.Encoder(order="deterministic").encode


def identity(message: Stored) -> bytes:
    """All that a message is: sequence, subject, headers with its time, and body."""
    headers = {name: value for name, value in message.headers.items() if name not in ADDED}
    return _encode((message.sequence, message.subject, headers, message.data))


class _Digest:
    """Gathers the Contents of messages given in their order; tells how far it is.

    What expires by itself is left out: it may be gone when the digest is compared.
    """

    def __init__(self, stream: str, state: dict[str, Any], tell: Tell) -> None:
        self.last: int = state["last_seq"]
        self._expected = max(state["messages"], 1)
        self._stream = stream
        self._tell = tell
        self._hash = hashlib.sha256()
        self._seen = self._messages = self._first = 0

    def add(self, message: Stored, body: bytes) -> None:
        """Take one message, with its `identity`."""
        self._seen += 1
        if self._seen % TOLD_EVERY == 0:
            self._tell("comparing", self._stream, min(self._seen / self._expected, 1.0))
        if TTL not in message.headers:
            self._hash.update(body)
            self._first = self._first or message.sequence
            self._messages += 1

    def contents(self) -> Contents:
        """Of all that was added."""
        self._tell("comparing", self._stream, 1.0)
        digest = self._hash.hexdigest()
        return Contents(messages=self._messages, first=self._first, last=self.last, digest=digest)


async def read(bus: Bus, stream: str, tell: Tell) -> Contents:
    """The contents of a stream that nobody writes to. Raises StreamError, Timeout, Unavailable."""
    digest = _Digest(stream, await _state(bus, stream), tell)
    async for message in _messages(bus, stream, digest.last):
        digest.add(message, identity(message))
    return digest.contents()


async def compare(original: Bus, copy: Bus, stream: str, tell: Tell) -> Contents:
    """The contents of a copy, of which every message is as in the original.

    The original lives on: it may have more behind the last sequence of the copy, and may have
    lost what was acknowledged, replaced or purged since. Raises BackupError if they differ.
    """
    digest = _Digest(stream, await _state(copy, stream), tell)
    there = _messages(original, stream, digest.last)
    theirs = await anext(there, None)
    async for ours in _messages(copy, stream, digest.last):
        while theirs is not None and theirs.sequence < ours.sequence:
            await _refuse_if_there(original, stream, theirs)
            theirs = await anext(there, None)
        body = identity(ours)
        if theirs is not None and theirs.sequence == ours.sequence:
            if identity(theirs) != body:
                raise _differs(stream, ours.sequence, "is another one in the copy")
            theirs = await anext(there, None)
        digest.add(ours, body)
    while theirs is not None:
        await _refuse_if_there(original, stream, theirs)
        theirs = await anext(there, None)
    return digest.contents()


async def _messages(bus: Bus, stream: str, last: int) -> AsyncIterator[Stored]:
    """All up to `last`, in their order."""
    after = 0
    while after < last:
        request = {"seq": after + 1, "batch": READ_BATCH, "max_bytes": READ_BYTES}
        found = await bus.direct_get(stream, request)
        for message in found:
            if message.sequence > last:
                return
            yield message
        if not found or not found[-1].pending:
            return
        after = found[-1].sequence


async def _refuse_if_there(bus: Bus, stream: str, message: Stored) -> None:
    if TTL in message.headers:  # expired in the copy first
        return
    # A replica may give out what the leader has removed already: the leader decides.
    try:
        await bus.api(f"STREAM.MSG.GET.{stream}", {"seq": message.sequence})
    except StreamError as error:
        if error.err_code != NO_MESSAGE:
            raise
    else:
        raise _differs(stream, message.sequence, "is missing from the copy")


async def _state(bus: Bus, stream: str) -> dict[str, Any]:
    state: dict[str, Any] = (await bus.api(f"STREAM.INFO.{stream}"))["state"]
    return state


def _differs(stream: str, sequence: int, how: str) -> BackupError:
    return BackupError(f"The message {sequence} of {stream} {how}; make the backup again.")
