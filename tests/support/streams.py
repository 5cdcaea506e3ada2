"""Reads streams whole, as they are, past every interpretation, and what is to be done of them."""

from __future__ import annotations

from penstock.infra.bus import Bus
from penstock.infra.consuming.consumers import consumers_of


async def everything(bus: Bus, stream: str) -> list[bytes]:
    """Subject, headers and body of each message of a stream."""
    found: list[bytes] = []
    after = 0
    while True:
        request = {"seq": after + 1, "next_by_subj": ">", "batch": 500, "max_bytes": 2**24}
        batch = await bus.direct_get(stream, request)
        for message in batch:
            headers = "\n".join(f"{name}: {value}" for name, value in message.headers.items())
            found.append(f"{message.subject}\n{headers}\n".encode() + message.data)
        if not batch or not batch[-1].pending:
            return found
        after = batch[-1].sequence


async def commands_waiting(bus: Bus) -> int:
    """How many commands of the services that have run are not done."""
    found = await consumers_of(bus, bus.subjects.stream("cmd"))
    return sum(one["num_pending"] + one["num_ack_pending"] for one in found)
