"""Names on the bus: subjects, streams, buckets and headers, under one prefix. Never any I/O."""

from __future__ import annotations

import re
from functools import lru_cache
from urllib.parse import quote, unquote

from penstock.contracts.errors import InvalidMessage

SERVICES = ("progress", "notifications", "jobs", "exports", "cache", "search")

MSG_ID = "Nats-Msg-Id"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SUBJECT = "Nats-Expected-Last-Subject-Sequence-Subject"
TTL = "Nats-TTL"
REPLY = "Penstock-Reply"
REDRIVEN = "Penstock-Redriven"  # a command that was refused before, to be decided anew

MAX_ID = 256
_PLAIN = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_ID}}}").fullmatch
_PREFIX = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@lru_cache(maxsize=4096)  # an id is asked for several times while it is worked on
def token(id: str) -> str:
    """`id` as one literal subject token: everything but letters, digits, - and _ is %-encoded.

    Raises InvalidMessage for an empty id, or one of more than 256 characters.
    """
    if _PLAIN(id):
        return id
    if not 0 < len(id) <= MAX_ID:
        raise InvalidMessage(f"An id has 1 to {MAX_ID} characters, this one has {len(id)}.")
    return quote(id, safe="-_").replace(".", "%2E").replace("~", "%7E")


def stands_for_itself(id: str) -> bool:
    """Whether `id` is its own token."""
    return _PLAIN(id) is not None


def untoken(token: str) -> str:
    """The id that `token` stands for."""
    return unquote(token)


class Subjects:
    """Every subject and stream name under one prefix (a setting; `penstock` by default)."""

    def __init__(self, prefix: str = "penstock") -> None:
        if not _PREFIX.fullmatch(prefix):
            raise InvalidMessage(
                f"The prefix {prefix!r} is not usable: up to 32 of a-z, 0-9, - and _, "
                "beginning with a letter or digit."
            )
        self.prefix = prefix
        self._stream = prefix.upper().replace("-", "_")

    def event(self, service: str, id: str) -> str:
        """Where the events of one aggregate are stored."""
        return f"{self.prefix}.ev.{service}.{token(id)}"

    def events(self, service: str) -> str:
        """All events of a service (a wildcard)."""
        return f"{self.prefix}.ev.{service}.>"

    def decision(self, service: str, id: str, key: str) -> str:
        """Where the answer to a command is kept that caused no event; `*` as key: all of one."""
        return f"{self.prefix}.decision.{service}.{token(id)}.{key}"

    def decisions(self, service: str) -> str:
        """All of them of a service (a wildcard)."""
        return f"{self.prefix}.decision.{service}.>"

    def snapshot(self, service: str, id: str) -> str:
        """Where the snapshot of an aggregate is kept."""
        return f"{self.prefix}.snap.{service}.{token(id)}"

    def command(self, service: str, verb: str) -> str:
        """Where a command is sent."""
        return f"{self.prefix}.cmd.{service}.{verb}"

    def commands(self, service: str) -> str:
        """All commands of a service, as its consumer filters them (wildcards); see `work_of`."""
        return f"*.cmd.{service}.>"

    def query(self, service: str, name: str) -> str:
        """Where a question about a view is asked (core NATS request)."""
        return f"{self.prefix}.query.{service}.{name}"

    def control(self, service: str, verb: str) -> str:
        """Where every instance of a service is asked to do something (core NATS)."""
        return f"{self.prefix}.control.{service}.{verb}"

    def change(self, entity: str, id: str) -> str:
        """Where the application says that one of its own entities changed."""
        return f"{self.prefix}.change.{token(entity)}.{token(id)}"

    def work(self, queue: str, priority: int, job: str) -> str:
        """Where one attempt of a job waits for a worker."""
        return f"{self.prefix}.work.{token(queue)}.{priority}.{token(job)}"

    def work_of(self, queue: str, priority: int) -> str:
        """All work of one queue and priority, as its consumer filters it (wildcards).

        The first one has a reason: see `consuming.clearing`.
        """
        return f"*.work.{token(queue)}.{priority}.*"

    def timer(self, service: str, id: str) -> str:
        """Where a timer is kept; publishing again replaces it."""
        return f"{self.prefix}.sched.at.{service}.{token(id)}"

    def due(self, service: str, id: str) -> str:
        """Where a timer's message arrives when it is due."""
        return f"{self.prefix}.sched.due.{service}.{token(id)}"

    def dues(self, service: str) -> str:
        """All due messages of a service (a wildcard)."""
        return f"{self.prefix}.sched.due.{service}.*"

    def deliveries(self, consumer: str) -> str:
        """Where a consumer's messages are delivered to the instances that share them."""
        return f"{self.prefix}.deliver.{consumer}"

    def dead(self, service: str = "", kind: str = "") -> str:
        """What a service could not decode, decide, fold or deliver (a wildcard)."""
        if not service and not kind:
            return f"{self.prefix}.dead.>"
        return f"{self.prefix}.dead.{service or '*'}.{f'{kind}.' if kind else ''}>"

    def dead_letter(self, service: str, kind: str, consumer: str, sequence: int) -> str:
        """Where the dead letter of one message is put: the same message, the same subject."""
        by = f".{token(consumer)}" if consumer else ""
        return f"{self.prefix}.dead.{service}.{kind}{by}.{sequence}"

    def live(self, service: str, id: str) -> str:
        """High-rate ticks that are not stored."""
        return f"{self.prefix}.live.{service}.{token(id)}"

    def withdrawn(self) -> str:
        """Where workers hear the id of a job that is not to be run any more."""
        return f"{self.prefix}.live.withdrawn"

    def worker(self, name: str) -> str:
        """Where a worker gives its signs of life; `*` as name: all of them."""
        return f"{self.prefix}.live.workers.{name if name == '*' else token(name)}"

    def worker_call(self) -> str:
        """Where workers are asked to give a whole sign of life at once."""
        return f"{self.prefix}.live.worker-call"

    def stream(self, name: str) -> str:
        """The name of a stream, bucket or object store: `PENSTOCK_<NAME>`."""
        return f"{self._stream}_{name.upper()}"

    def event_stream(self, service: str) -> str:
        """The stream that is a service's event store."""
        return self.stream(f"EV_{service}")
