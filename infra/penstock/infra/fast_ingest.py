"""Stores many messages in one go that need not be stored together: each is by itself.

It costs the server half of what an atomic batch does, where it need not sync: it syncs for each
message. Where they stand in the stream is not told. Never looks at content.

Fast ingest: https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-50.md
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

import msgspec
from nats.aio.msg import Msg

from penstock.contracts.errors import TooLarge
from penstock.infra.bus import Bus, Message
from penstock.infra.commit import MAX_BATCH
from penstock.infra.replies import ack_of


class _Kind(msgspec.Struct):
    type: str | None = None


_decode = msgspec.json.Decoder(_Kind).decode


async def ingest(bus: Bus, messages: Sequence[Message], *, timeout: float) -> bool:
    """Store up to 1000 messages of one stream, which allows it; whether all of them are stored.

    What is known by its Nats-Msg-Id counts as stored. If one was refused or lost on the way, those
    before it are stored and those behind it are not. Raises StreamError, TooLarge, Unavailable; or
    Timeout or ConnectionLost, after which any may be stored.

    The flow that the protocol controls is not waited for: so few messages fit into the server's
    queue, and what did not would be told as a gap.
    """
    if len(messages) > MAX_BATCH:
        raise TooLarge(f"At most {MAX_BATCH} messages go in one ingest, not {len(messages)}.")
    id = uuid.uuid4().hex[:16]
    reply = await bus.publish_ingest(messages, id, _ends, timeout=timeout)
    return ack_of(reply).count == len(messages)


def _ends(reply: Msg) -> bool:
    """Whether it is the final word; others tell of the flow, of a gap or of a refusal."""
    return not reply.data or _decode(reply.data).type is None
