"""Takes messages out of a stream from which consumers deliver. Never acknowledges.

One by one, and not by a purge of their subject: with every such purge the server forgets which of
the other messages its consumers are to deliver anew, those of a worker that died among them, and
delivers them only when they have gone unanswered for once more as long (`consumer.purge` in
nats-server 2.15: what is queued for redelivery stands before the next new message, and is dropped).
"""

from __future__ import annotations

from typing import Any

from penstock.infra.bus import Bus, StreamError

GONE = (10037, 10043, 10057)  # there is no such message any more


async def remove_subject(bus: Bus, stream: str, subject: str) -> None:
    """Remove what the stream holds of a subject; what comes meanwhile may be removed or stay.

    Raises StreamError or Unavailable.
    """
    while (sequence := await _last(bus, stream, subject)) is not None:
        await remove_message(bus, stream, sequence)


async def remove_message(bus: Bus, stream: str, sequence: int) -> None:
    """Remove one message, if it is still there. Raises StreamError or Unavailable."""
    request = {"seq": sequence, "no_erase": True}
    try:
        await bus.api(f"STREAM.MSG.DELETE.{stream}", request)
    except StreamError as error:
        if error.err_code not in GONE:
            raise


async def _last(bus: Bus, stream: str, subject: str) -> int | None:
    # Not by Direct Get: a replica may not know yet what has to go.
    request = {"last_by_subj": subject}
    try:
        found: Any = await bus.api(f"STREAM.MSG.GET.{stream}", request)
    except StreamError as error:
        if error.err_code not in GONE:
            raise
        return None
    return int(found["message"]["seq"])
