"""Durable pull consumers of a work stream, and the acknowledgements of what they deliver.

Never pulls: that is for `lanes`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.infra.bus import Bus, StreamError

NANOSECONDS = 1_000_000_000
CONSUMER_EXISTS = 10148
MOST_PULLS = 4096  # pulls of all clients that may wait at one consumer

ACK = b"+ACK"
NAK = b"-NAK"
IN_PROGRESS = b"+WPI"


class Delivery(msgspec.Struct, frozen=True, gc=False):
    """Which message a consumer delivered, for the `count`-th time."""

    consumer: str
    count: int
    sequence: int


def delivery(reply: str) -> Delivery:
    """What the reply subject of a delivered message tells.

    `$JS.ACK.<stream>.<consumer>.<delivered>.<sequence>.<position>.<time>.<pending>`, in newer
    servers with `<domain>.<account>` after ACK and a token at the end (ADR-15).
    """
    fields = reply.split(".")
    start = 3 if len(fields) == 9 else 5
    return Delivery(fields[start], int(fields[start + 1]), int(fields[start + 2]))


def nak_after(seconds: float) -> bytes:
    """The acknowledgement that gives a message back, to be delivered after some seconds."""
    return b'%s {"delay": %d}' % (NAK, int(seconds * NANOSECONDS))


def lane_config(name: str, subject: str, ack_wait: float) -> dict[str, Any]:
    """How the consumer `name` of `subject` is configured, as the API takes it."""
    return {
        "durable_name": name,
        "filter_subject": subject,
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait * NANOSECONDS),
        "max_ack_pending": -1,  # each client bounds what it has in hand
        "max_waiting": MOST_PULLS,
    }


async def ensure_consumer(bus: Bus, stream: str, name: str, subject: str, ack_wait: float) -> float:
    """Make the durable consumer `name` of `subject`; the seconds that it waits for an answer.

    If it exists with another `ack_wait`, the longer one holds for as long as somebody uses it:
    those who renew more often than needed do no harm, those who renew too rarely lose their work.
    Raises StreamError, or Unavailable if there is no such stream yet.
    """
    config = lane_config(name, subject, ack_wait)
    try:
        info = await _create(bus, stream, config, "create")
    except StreamError as error:
        if error.err_code != CONSUMER_EXISTS:
            raise
        info = await bus.api(f"CONSUMER.INFO.{stream}.{name}")
        in_use = bool(info["num_waiting"] or info["num_ack_pending"])
        present = info["config"]["ack_wait"]
        wanted = max(present, config["ack_wait"]) if in_use else config["ack_wait"]
        # An earlier version may have had the same filter in other words.
        if wanted != present or info["config"]["filter_subject"] != subject:
            info = await update_consumer(bus, stream, {**config, "ack_wait": wanted})
    return float(info["config"]["ack_wait"]) / NANOSECONDS


async def update_consumer(bus: Bus, stream: str, config: dict[str, Any]) -> Any:
    """Give a durable consumer another config. Raises StreamError or Unavailable."""
    return await _create(bus, stream, config, "update")


async def _create(bus: Bus, stream: str, config: dict[str, Any], action: str) -> Any:
    verb = f"CONSUMER.CREATE.{stream}.{config['durable_name']}.{config['filter_subject']}"
    return await bus.api(verb, {"stream_name": stream, "config": config, "action": action})


async def consumers_of(bus: Bus, stream: str) -> list[dict[str, Any]]:
    """What the server tells of all consumers of a stream. Raises StreamError or Unavailable."""
    found: list[dict[str, Any]] = []
    while True:
        page = await bus.api(f"CONSUMER.LIST.{stream}", {"offset": len(found)})
        found += page["consumers"] or []
        if not page["consumers"] or len(found) >= page["total"]:
            return found
