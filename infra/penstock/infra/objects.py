"""The object store for files: put whole, read in pieces, checked against size and SHA-256.

Written and read in the form of other NATS clients (ADR-20). A name shows its new content only once
all of it is stored. Never interprets content.

Format: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-20.md
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import uuid
from collections.abc import AsyncIterator
from typing import Any, BinaryIO

import msgspec
from nats.errors import Error as NatsError
from nats.errors import TimeoutError as NatsTimeout
from nats.js.errors import APIError
from nats.js.object_store import ObjectStore

from penstock.contracts.envelope import invalid
from penstock.contracts.errors import (
    Conflict,
    InvalidMessage,
    NotFound,
    PenstockError,
    Timeout,
    Unavailable,
)
from penstock.contracts.subjects import EXPECTED
from penstock.infra.bus import Bus, Stored, StreamError
from penstock.infra.event_log import WRONG_LAST_SEQUENCE

CHUNK = 128 * 1024  # bytes
BATCH = 64  # chunks asked for at a time
BATCH_BYTES = 8 * 1024 * 1024
PATIENCE = 2.0  # seconds that a replica may be behind
RETRY = 0.05
NO_MESSAGE = 10037
DIGEST = "sha-256="


class Damaged(PenstockError):  # noqa: N818 - errors are named for what happened
    """What the object store holds is not what was put there."""

    code, title, status = "damaged", "Damaged object", 502


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object in the store. `size` in bytes, `sha256` in hexadecimal, `nuid` names its chunks."""

    name: str
    size: int
    sha256: str
    nuid: str


class _Meta(msgspec.Struct):
    """The message that makes an object: ADR-20's ObjectInfo, as far as it is needed to read."""

    name: str
    bucket: str = ""
    nuid: str = ""
    size: int = 0
    chunks: int = 0
    options: dict[str, Any] = msgspec.field(default_factory=lambda: {"max_chunk_size": CHUNK})
    digest: str = ""
    deleted: bool = False


_decode_meta = msgspec.json.Decoder(_Meta).decode


class Objects:
    """The system's object store, or the one called `bucket`. It must have been provisioned."""

    def __init__(self, bus: Bus, *, bucket: str | None = None) -> None:
        self._bus = bus
        self._bucket = bucket or bus.subjects.stream("files")
        self._stream = f"OBJ_{self._bucket}"

    async def put(self, name: str, source: bytes | BinaryIO) -> StoredObject:
        """Store the whole of `source` as `name`, in place of what was there.

        Until this returns, others find what was there before. A file is read in a thread, from
        where it stands. Raises Unavailable, Timeout or StreamError; nothing is then changed.
        """
        store = ObjectStore(self._bucket, self._stream, self._bus.js)
        try:
            info = await store.put(name, source)  # type: ignore[arg-type]  # any `readinto` will do
        except NatsTimeout as error:
            raise Timeout(f"Storing {name!r} took too long; try again.") from error
        except APIError as error:
            raise StreamError(
                f"The object store refused {name!r}: {error.description}.",
                err_code=error.err_code or 0,
            ) from error
        except NatsError as error:
            raise Unavailable(
                f"{name!r} could not be stored ({type(error).__name__}); is the system provisioned?"
            ) from error
        return _stored(
            _Meta(name=name, nuid=info.nuid, size=info.size or 0, digest=info.digest or "")
        )

    async def put_once(self, name: str, data: bytes) -> StoredObject:
        """Store `data` as `name` unless the very same is there. Raises as `put` and `info` do."""
        try:
            found = await self.info(name)
        except NotFound:
            return await self.put(name, data)
        same = found.sha256 == hashlib.sha256(data).hexdigest()
        return found if same else await self.put(name, data)

    async def replace(self, stored: StoredObject, data: bytes, *, named_at: int) -> None:
        """Store `data` in place of `stored`, as `find` found it.

        Raises Conflict if that was replaced or removed since; nothing is then changed. Raises
        Unavailable or Timeout too: what holds then, `info` tells.
        """
        nuid = uuid.uuid4().hex[:22]
        chunks = range(0, len(data), CHUNK)
        for at in chunks:
            subject = f"$O.{self._bucket}.C.{nuid}"
            await self._bus.publish_acked(subject, data[at : at + CHUNK])
        meta = _Meta(
            name=stored.name,
            bucket=self._bucket,
            nuid=nuid,
            size=len(data),
            chunks=len(chunks),
            digest=DIGEST + base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode(),
        )
        headers = {"Nats-Rollup": "sub", EXPECTED: str(named_at)}
        try:
            body = msgspec.json.encode(meta)
            await self._bus.publish_acked(self._name(stored.name), body, headers)
        except StreamError as error:
            await self._purge_chunks(nuid)
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
            raise Conflict(f"{stored.name!r} was replaced meanwhile; read it again.") from error
        await self._purge_chunks(stored.nuid)

    async def _purge_chunks(self, nuid: str) -> None:
        subject = f"$O.{self._bucket}.C.{nuid}"
        await self._bus.api(f"STREAM.PURGE.{self._stream}", {"filter": subject})

    async def remove(self, name: str) -> None:
        """Remove an object and its name, if there is one. Raises Unavailable or Timeout.

        The name goes last: until then a second call finds what is left.
        """
        try:
            stored = await self.info(name)
        except NotFound:
            return
        await self._purge_chunks(stored.nuid)
        await self._bus.api(f"STREAM.PURGE.{self._stream}", {"filter": self._name(name)})

    async def info(self, name: str) -> StoredObject:
        """What is stored as `name`. Raises NotFound, Unavailable, Timeout or Damaged."""
        stored, _ = await self.find(name)
        return stored

    async def find(self, name: str) -> tuple[StoredObject, int]:
        """As `info`, and the sequence where it got its name, another after it was replaced."""
        subject = self._name(name)
        try:
            # Not by Direct Get: a replica may not know yet what was put a moment ago.
            reply = await self._bus.api(f"STREAM.MSG.GET.{self._stream}", {"last_by_subj": subject})
        except StreamError as error:
            if error.err_code != NO_MESSAGE:
                raise
            raise NotFound(f"The object store has no {name!r}.", name=name) from error
        meta = _meta(name, base64.b64decode(reply["message"]["data"]))
        if meta.deleted:
            raise NotFound(f"{name!r} was deleted from the object store.", name=name)
        return _stored(meta), reply["message"]["seq"]

    async def names(self, prefix: str) -> AsyncIterator[str]:
        """The names of all objects that begin with `prefix`, in the order they were named."""
        after = 0
        while True:
            request = {
                "seq": after + 1,
                "next_by_subj": f"$O.{self._bucket}.M.>",
                "batch": BATCH,
                "max_bytes": BATCH_BYTES,
            }
            found = await self._bus.direct_get(self._stream, request)
            for message in found:
                meta = _meta("one", message.data)
                if meta.name.startswith(prefix) and not meta.deleted:
                    yield meta.name
            if not found or not found[-1].pending:
                return
            after = found[-1].sequence

    async def get(self, name: str) -> bytes:
        """The whole content, checked. Raises as `info` and `read` do."""
        return b"".join([piece async for piece in self.read(await self.info(name))])

    async def read(
        self, stored: StoredObject, *, start: int = 0, stop: int | None = None
    ) -> AsyncIterator[bytes]:
        """The bytes from `start` to before `stop`, piece by piece.

        The whole is checked against its SHA-256 before the last piece is given out: who has all of
        it has what was put. A part cannot be checked. Raises Damaged, Unavailable if the object was
        replaced or deleted meanwhile, or Timeout.
        """
        stop = stored.size if stop is None else min(stop, stored.size)
        whole = (start, stop) == (0, stored.size)
        digest, at = hashlib.sha256(), 0
        async for chunk in self._chunks(stored):
            if whole:
                digest.update(chunk)
            at += len(chunk)
            if at == stored.size and whole and digest.hexdigest() != stored.sha256:
                raise Damaged(
                    f"{stored.name!r} has another SHA-256 than when it was stored; make it again.",
                    name=stored.name,
                )
            first = at - len(chunk)
            if piece := chunk[max(start - first, 0) : max(stop - first, 0)]:
                yield piece
            if at >= stop:
                return

    def _name(self, name: str) -> str:
        return f"$O.{self._bucket}.M.{base64.urlsafe_b64encode(name.encode()).decode()}"

    async def _chunks(self, stored: StoredObject) -> AsyncIterator[bytes]:
        left, after = stored.size, 0
        while left > 0:
            for message in await self._batch(stored, after):
                after = message.sequence
                left -= len(message.data)
                if left < 0:
                    raise Damaged(
                        f"{stored.name!r} has more than its {stored.size} bytes; make it again.",
                        name=stored.name,
                    )
                yield message.data

    async def _batch(self, stored: StoredObject, after: int) -> list[Stored]:
        request = {
            "seq": after + 1,
            "next_by_subj": f"$O.{self._bucket}.C.{stored.nuid}",
            "batch": BATCH,
            "max_bytes": BATCH_BYTES,
        }
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while not (found := await self._bus.direct_get(self._stream, request)):
            if loop.time() > deadline:
                raise Unavailable(
                    f"Parts of {stored.name!r} are gone: it was replaced or deleted meanwhile; "
                    "read it again.",
                    name=stored.name,
                )
            await asyncio.sleep(RETRY)
        return found


def _meta(name: str, body: bytes) -> _Meta:
    try:
        return _decode_meta(body)
    except msgspec.DecodeError as error:
        raise invalid(error, f"The object {name!r}") from error


def _stored(meta: _Meta) -> StoredObject:
    """Raises InvalidMessage for what is no file, such as a link, or has no SHA-256."""
    scheme, encoded = meta.digest[: len(DIGEST)].lower(), meta.digest[len(DIGEST) :]
    try:
        digest = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except binascii.Error:
        digest = b""
    if scheme != DIGEST or len(digest) != hashlib.sha256().digest_size:
        raise InvalidMessage(
            f"The object {meta.name!r} has no SHA-256 (links are not followed); put it anew."
        )
    return StoredObject(name=meta.name, size=meta.size, sha256=digest.hex(), nuid=meta.nuid)
