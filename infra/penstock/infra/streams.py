"""The streams, buckets and object stores of the design, and their provisioning.

Idempotent; grows what exists and never shrinks it.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from penstock.contracts.errors import PenstockError, StartupError, Unavailable
from penstock.contracts.subjects import SERVICES, Subjects
from penstock.infra.bus import Bus, StreamError
from penstock.infra.retrying import until_available

SECOND = 1_000_000_000
DAY = 86_400 * SECOND
FORMING = 20.0  # seconds to wait for servers to become a cluster
NO_PEERS, NOT_CLUSTERED = 10005, 10074
NO_PLACE = (NO_PEERS, NOT_CLUSTERED)  # other servers may yet join
NOT_FOUND = 10059
NAME_IN_USE = 10058
Config = dict[str, Any]


def _stream(name: str, subjects: list[str], replicas: int, **more: Any) -> Config:
    return {
        "name": name,
        "subjects": subjects,
        "storage": "file",
        "retention": "limits",
        "discard": "old",
        "num_replicas": replicas,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_age": 0,
        "max_msg_size": -1,
        "duplicate_window": 2 * 60 * SECOND,
        "allow_direct": True,
        **more,
    }


def event_stream(subjects: Subjects, service: str, replicas: int = 1) -> Config:
    """The event store of one service, and what it decided where no event tells it.

    Both in one stream, so that a decision can be stored on the condition that its aggregate is
    still as it was decided upon. Decisions end with their time.
    """
    kept = [subjects.events(service), subjects.decisions(service)]
    return event_store(subjects.event_stream(service), kept, replicas) | {"allow_msg_ttl": True}


def event_store(name: str, subjects: list[str], replicas: int = 1) -> Config:
    """A stream of events. No rollup, no schedules: nothing may rewrite it."""
    return _stream(
        name,
        subjects,
        replicas,
        discard="new",
        # Not compressed: loading an aggregate would decompress a whole block for each of its
        # events, which made it ten times slower for a sixth of the disk.
        compression="none",
        allow_atomic=True,
        duplicate_window=SECOND,
        deny_delete=True,
    )


def streams(subjects: Subjects, replicas: int = 1, *, clustered: bool = False) -> list[Config]:
    """Every stream of the system, as the server's API takes them.

    What is done of commands and work is removed by the server itself in a cluster, where servers
    agree on many removals at a time, and else by the services: see `consuming.clearing`.
    """
    p, name = subjects.prefix, subjects.stream
    by_server = "workqueue" if clustered or replicas > 1 else "limits"
    return [
        *(event_stream(subjects, service, replicas) for service in SERVICES),
        _stream(name("changes"), [f"{p}.change.>"], replicas, max_age=30 * DAY),
        _stream(name("cmd"), [f"{p}.cmd.>"], replicas, retention=by_server),
        _stream(
            name("work"),
            [f"{p}.work.>"],
            replicas,
            retention=by_server,
            allow_atomic=True,
            allow_batched=True,
        ),
        _stream(
            name("sched"),
            [f"{p}.sched.>"],
            replicas,
            allow_msg_schedules=True,
            allow_msg_ttl=True,
            allow_atomic=True,
        ),
        _stream(name("dead"), [f"{p}.dead.>"], replicas, max_age=90 * DAY),
        _stream(name("snap"), [f"{p}.snap.>"], replicas, max_msgs_per_subject=1),
        _bucket(name("cache"), replicas),
        _object_store(name("files"), replicas),
    ]


def _bucket(name: str, replicas: int) -> Config:
    """A key-value bucket (ADR-8), with a lifetime for each entry."""
    return _stream(
        f"KV_{name}",
        [f"$KV.{name}.>"],
        replicas,
        max_msgs_per_subject=1,
        allow_rollup_hdrs=True,
        deny_delete=True,
        discard="new",
        allow_msg_ttl=True,
    )


def _object_store(name: str, replicas: int) -> Config:
    """An object store (ADR-20)."""
    return _stream(
        f"OBJ_{name}",
        [f"$O.{name}.C.>", f"$O.{name}.M.>"],
        replicas,
        allow_rollup_hdrs=True,
        discard="new",
    )


async def wait_for_jetstream(bus: Bus) -> None:
    """Wait up to FORMING seconds for servers that are yet to become a cluster.

    Raises Unavailable, or StreamError.
    """
    asked = partial(bus.api, "INFO", timeout=2)
    await until_available(asked, "JetStream", within=FORMING)


async def provision(bus: Bus, *, replicas: int = 1) -> list[str]:
    """Make or grow every stream, each with a leader; the names of those made or changed.

    Waits up to FORMING seconds for servers that are yet to become a cluster. Raises StartupError if
    a stream exists in a form that would have to be shrunk or replaced, or if there are fewer
    servers than replicas; Unavailable.
    """
    changed = []
    for config in streams(bus.subjects, replicas, clustered=bus.nc.is_clustered):
        attempt = partial(_provision_one, bus, config)
        if await until_available(attempt, f"the stream {config['name']}", within=FORMING):
            changed.append(config["name"])
    return changed


async def _provision_one(bus: Bus, wanted: Config) -> bool:
    try:
        done = await ensure(bus, wanted)
    except StreamError as error:
        if error.err_code not in NO_PLACE:
            raise
        raise _no_place(error, wanted) from error
    info = await bus.api(f"STREAM.INFO.{wanted['name']}", timeout=2)
    if not info.get("cluster", {"leader": True}).get("leader"):
        raise Unavailable(f"The stream {wanted['name']} has no leader yet.")
    return done


def _no_place(error: StreamError, wanted: Config) -> PenstockError:
    replicas = wanted["num_replicas"]
    text = (
        f"The stream {wanted['name']} cannot have {replicas} replicas: {error} "
        f"PENSTOCK_REPLICAS={replicas} needs a cluster of as many servers with JetStream, each "
        "with room."
    )
    return StartupError(text) if error.err_code == NOT_CLUSTERED else Unavailable(text)


async def ensure(bus: Bus, wanted: Config) -> bool:
    """Make or grow one stream; whether anything had to be done. Raises StartupError."""
    name = wanted["name"]
    try:
        found = (await bus.api(f"STREAM.INFO.{name}"))["config"]
    except StreamError as error:
        if error.err_code != NOT_FOUND:
            raise
        return await _create(bus, wanted)
    wanted = as_made(found, wanted)
    if problem := shrinks(found, wanted):
        raise StartupError(
            f"The stream {name} exists and {problem}; Penstock does not shrink or replace what "
            "is stored: change the setting, or move the stream's data first."
        )
    merged = {**found, **wanted, "subjects": _union(found["subjects"], wanted["subjects"])}
    if merged == found:
        return False
    await bus.api(f"STREAM.UPDATE.{name}", merged)
    return True


async def _create(bus: Bus, wanted: Config) -> bool:
    try:
        await bus.api(f"STREAM.CREATE.{wanted['name']}", wanted)
    except StreamError as error:
        if error.err_code != NAME_IN_USE:  # another process was quicker
            raise
        return await ensure(bus, wanted)
    return True


def _union(found: list[str], wanted: list[str]) -> list[str]:
    return found + [subject for subject in wanted if subject not in found]


def as_made(found: Config, wanted: Config) -> Config:
    """`wanted` with what cannot change any more, and works in either form."""
    is_queue = wanted["subjects"][0].endswith((".cmd.>", ".work.>"))
    if is_queue and found.get("retention") in ("limits", "workqueue"):
        return {**wanted, "retention": found["retention"]}
    return wanted


def shrinks(found: Config, wanted: Config) -> str | None:
    """Why `wanted` would take something away from `found`, or None."""
    for fixed in ("storage", "retention"):
        if found.get(fixed) != wanted[fixed]:
            return f"its {fixed} is {found.get(fixed)!r}, not {wanted[fixed]!r}"
    for limit in ("max_age", "max_bytes", "max_msgs", "max_msgs_per_subject"):
        has, wants = found.get(limit, 0) or 0, wanted.get(limit, 0) or 0
        if wants > 0 and (has <= 0 or wants < has):
            return f"its {limit} is {has if has > 0 else 'unlimited'}, more than {wants}"
    if found.get("num_replicas", 1) > wanted["num_replicas"]:
        return (
            f"it has {found['num_replicas']} replicas, more than PENSTOCK_REPLICAS="
            f"{wanted['num_replicas']}"
        )
    return None


def differs(found: Config, wanted: Config) -> list[str]:
    """The fields in which a stream is not as it should be; an empty list when it is."""
    return [
        field
        for field, value in as_made(found, wanted).items()
        if found.get(field) != value
        and not (field == "subjects" and set(value) <= set(found["subjects"]))
        and (found.get(field) or value)
    ]
