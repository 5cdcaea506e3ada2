"""How much a socket may ask of the gateway, and how long it may take. Never any logic."""

from __future__ import annotations

import msgspec

from penstock.contracts.notifications import SERVICE

AUDIENCE = f"penstock.{SERVICE}"


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. `strangers` are sockets of one address that have not said who they are."""

    connections: int = 10_000
    strangers: int = 500
    per_user: int = 100
    channels: int = 100
    queue: int = 1024 * 1024  # bytes that wait for a slow client
    to_connect: float = 5.0
    ping: float = 25.0
    to_pong: float = 10.0
    to_close: float = 5.0
    closes_a_second: int = 500
