"""The wire protocol `penstock.v1.json`: what a socket and the gateway say to each other.

JSON text frames, of which each may hold several lines, one message a line. A reply has the id of
its request. Holds the messages and the numbers; never any I/O.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

import msgspec

from penstock.contracts.envelope import Time

PROTOCOL = "penstock.v1.json"
VERSION = 1
PATH = "/notifications/ws"
MAX_FRAME = 64 * 1024


class Code(IntEnum):
    """Why a request failed, in Centrifugo's numbers (https://centrifugal.dev/docs/server/codes)."""

    INTERNAL = 100
    UNAUTHORIZED = 101
    DENIED = 103
    LIMIT = 106
    BAD_REQUEST = 107
    NOT_AVAILABLE = 108
    TOKEN_EXPIRED = 109
    TOO_MANY_REQUESTS = 111
    UNRECOVERABLE = 112


class Close(IntEnum):
    """Why a socket is closed: below 3500 connect again, from there on do not."""

    SHUTDOWN = 3001
    EXPIRED = 3005
    SLOW = 3008
    INSUFFICIENT_STATE = 3010
    NO_PONG = 3012
    INVALID_TOKEN = 3500
    BAD_REQUEST = 3501
    STALE = 3502
    CONNECTION_LIMIT = 3504
    DENIED = 3507

    @property
    def is_final(self) -> bool:
        """True if connecting again would end the same way."""
        return self >= 3500


class Part(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What all parts of a message share."""


class Connect(Part, frozen=True, kw_only=True):
    """The first frame of a client: who it is. Members unknown here are ignored, as everywhere."""

    token: str
    ver: int = VERSION


class Subscribe(Part, frozen=True, kw_only=True):
    """Ask for `inbox` or for a channel: what comes from now on, or all after the position `seq`.

    With an `epoch` the position holds for that life of the stream only.
    """

    ch: str
    epoch: str | None = None
    seq: int | None = None


class Channel(Part, frozen=True, kw_only=True):
    """A channel, or `inbox`."""

    ch: str


class Position(Part, frozen=True, kw_only=True):
    """How far a channel is known or processed: all up to and with `seq`."""

    ch: str
    seq: int


class Empty(Part, frozen=True, kw_only=True):
    """A part that says all by being there."""


class Request(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of the client: one of its parts."""

    id: int | None = None
    connect: Connect | None = None
    sub: Subscribe | None = None
    unsub: Channel | None = None
    ack: Position | None = None
    pong: Empty | None = None


class Connected(Part, frozen=True, kw_only=True):
    """Welcome: `ping` is the seconds between pings, `exp` those until the token expires."""

    client: str
    ping: float
    exp: int


class Subscribed(msgspec.Struct, frozen=True, kw_only=True):
    """Events after `from` follow; `top` is the channel's last one now.

    `recovered`: a position was given, and everything after it is there and comes, in order.
    """

    epoch: str
    origin: int = msgspec.field(name="from")
    top: int
    recovered: bool


class Event(Part, frozen=True, kw_only=True):
    """One event of a channel, at the stream sequence `seq`.

    `prev` is the position it follows on: between the two the channel has nothing. For a
    notification `id` is its id and `data` its content; for `read` (in an inbox) `data` has `ids`
    and `through`, as in `MarkRead`. `erased` and `archived` say that nothing before is there any
    more. `replay`: it is older than the subscription.
    """

    ch: str
    seq: int
    prev: int
    id: str
    type: Literal["notification", "read", "erased", "archived"]
    time: Time
    replay: bool = False
    data: msgspec.Raw


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request failed; `temporary`: the same request may succeed later."""

    code: int
    msg: str
    temporary: bool = False


class Reply(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A message of the gateway: one of its parts, with the id of the request it answers."""

    id: int | None = None
    connect: Connected | None = None
    sub: Subscribed | None = None
    unsub: Channel | None = None
    ev: Event | None = None
    live: Position | None = None
    ping: Empty | None = None
    err: Problem | None = None
