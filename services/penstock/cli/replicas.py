"""Looks whether the replicas of every stream follow their leaders. Never changes one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from penstock.cli.findings import Finding
from penstock.contracts.errors import PenstockError
from penstock.infra.bus import Bus, StreamError
from penstock.infra.streams import streams

NANOSECONDS = 1_000_000_000
TIMEOUT = 2.0  # seconds; a stream without a leader may not answer at all
SILENT = 10.0  # seconds without a word after which a replica does not follow, whatever is said


async def replica_finding(bus: Bus) -> Finding | None:
    """How the replicas stand; None if no stream has any."""
    clusters: dict[str, dict[str, Any]] = {}
    for config in streams(bus.subjects):
        try:
            info = await bus.api(f"STREAM.INFO.{config['name']}", timeout=TIMEOUT)
        except StreamError:  # told by what looks at the streams themselves
            continue
        except PenstockError:
            clusters[config["name"]] = {}
            continue
        if info["config"]["num_replicas"] > 1:
            clusters[config["name"]] = info.get("cluster", {})
    if not clusters:
        return None
    behind = [text for name, cluster in clusters.items() for text in _behind(name, cluster)]
    if behind:
        text = f"{'; '.join(behind)}: start the server, or look at its disk, log and routes"
        return Finding("warn", "replicas", text)
    return Finding("ok", "replicas", f"those of all {len(clusters)} streams follow their leaders")


def _behind(stream: str, cluster: dict[str, Any]) -> Iterator[str]:
    if not cluster.get("leader"):
        yield f"{stream} has no leader"
    for replica in cluster.get("replicas") or ():
        silent = replica.get("active", 0) / NANOSECONDS
        if replica.get("offline"):
            yield f"{stream} on {replica['name']} is offline"
        elif not replica["current"] or silent > SILENT:
            yield f"{stream} on {replica['name']} is behind by {replica.get('lag', 0)}"
