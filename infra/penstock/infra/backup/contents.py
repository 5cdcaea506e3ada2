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
    """Gathers the Contents of messages given in their order."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._messages = self._first = 0

    def add(self, sequence: int, body: bytes) -> int:
        """Take one message; how many it has now."""
        self._hash.update(body)
        self._first = self._first or sequence
        self._messages += 1
        return self._messages

    def contents(self, last: int) -> Contents:
        """`last` is the stream's last sequence, whose message may be gone."""
        digest = self._hash.hexdigest()
        return Contents(messages=self._messages, first=self._first, last=last, digest=digest)


async def read(bus: Bus, stream: str, tell: Tell) -> Contents:
    """The contents of a stream that nobody writes to. Raises StreamError, Timeout, Unavailable."""
    state = await _state(bus, stream)
    digest = _Digest()
    async for message in _messages(bus, stream, state["last_seq"]):
        count = digest.add(message.sequence, identity(message))
        if count % TOLD_EVERY == 0:
            tell("comparing", stream, min(count / state["messages"], 1.0))
    tell("comparing", stream, 1.0)
    return digest.contents(state["last_seq"])


async def compare(original: Bus, copy: Bus, stream: str, tell: Tell) -> Contents:
    """The contents of a copy, of which every message is as in the original.

    The original lives on: it may have more behind the last sequence of the copy, and may have
    lost what was acknowledged, replaced or purged since. Raises BackupError if they differ.
    """
    state = await _state(copy, stream)
    last, digest = state["last_seq"], _Digest()
    there = _messages(original, stream, last)
    theirs = await anext(there, None)
    async for ours in _messages(copy, stream, last):
        while theirs is not None and theirs.sequence < ours.sequence:
            await _refuse_if_there(original, stream, theirs.sequence)
            theirs = await anext(there, None)
        body = identity(ours)
        if theirs is not None and theirs.sequence == ours.sequence:
            if identity(theirs) != body:
                raise _differs(stream, ours.sequence, "is another one in the copy")
            theirs = await anext(there, None)
        if (count := digest.add(ours.sequence, body)) % TOLD_EVERY == 0:
            tell("comparing", stream, min(count / state["messages"], 1.0))
    while theirs is not None:
        await _refuse_if_there(original, stream, theirs.sequence)
        theirs = await anext(there, None)
    tell("comparing", stream, 1.0)
    return digest.contents(last)


async def _messages(bus: Bus, stream: str, last: int) -> AsyncIterator[Stored]:
    """All up to `last` that do not expire by themselves."""
    after = 0
    while after < last:
        request = {"seq": after + 1, "batch": READ_BATCH, "max_bytes": READ_BYTES}
        found = await bus.direct_get(stream, request)
        for message in found:
            if message.sequence > last:
                return
            if TTL not in message.headers:
                yield message
        if not found or not found[-1].pending:
            return
        after = found[-1].sequence


async def _refuse_if_there(bus: Bus, stream: str, sequence: int) -> None:
    # A replica may give out what the leader has removed already: the leader decides.
    try:
        await bus.api(f"STREAM.MSG.GET.{stream}", {"seq": sequence})
    except StreamError as error:
        if error.err_code != NO_MESSAGE:
            raise
    else:
        raise _differs(stream, sequence, "is missing from the copy")


async def _state(bus: Bus, stream: str) -> dict[str, Any]:
    state: dict[str, Any] = (await bus.api(f"STREAM.INFO.{stream}"))["state"]
    return state


def _differs(stream: str, sequence: int, how: str) -> BackupError:
    return BackupError(f"The message {sequence} of {stream} {how}; make the backup again.")
