"""Many events of progress in a log, faster than commands would bring them."""

from __future__ import annotations

from datetime import UTC, datetime

from penstock.contracts.envelope import Envelope, encode, wrap
from penstock.contracts.progress import ProgressCreated, ProgressUpdated
from penstock.infra.bus import Bus
from penstock.infra.commit import publish_batch

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
AT_ONCE = 1000


def happened(id: str, version: int) -> Envelope:
    """The event `version` of a progress."""
    data = ProgressUpdated(percent=version % 100, message=f"step {version}")
    return wrap(
        ProgressCreated(metadata={"file": id}) if version == 1 else data,
        id=f"{id}-{version}",
        subject=id,
        time=NOW,
        correlationid=f"flow-{id}",
        causationid=f"{id}-c{version}",
        version=version,
    )


async def fill(bus: Bus, count: int, *, begin: str = "p") -> None:
    """Store `count` events, at most ten of one aggregate: `p0` to `p999`, then others."""
    names = [f"{begin}{number}" for number in range(min(count, AT_ONCE))]
    stored = 0
    while stored < count:
        version = stored // AT_ONCE % 10 + 1
        if version == 1 and stored:
            names = [f"{name}x" for name in names]
        now = names[: count - stored]
        batch: list[tuple[str, bytes, dict[str, str]]] = [
            (bus.subjects.event("progress", name), encode(happened(name, version)), {})
            for name in now
        ]
        await publish_batch(bus, batch, timeout=30)
        stored += len(now)
