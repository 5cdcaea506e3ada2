"""Which streams a backup has, in which order they are copied, and why in this one. Never any I/O.

Each stream is copied as it is at an instant of its own, one after the other, while traffic goes
on. What may be read off the copies together then follows from the order:

- The ack floors of durable consumers are noted before anything is copied. What they have passed
  had its effects stored by then, so a consumer that begins again behind its floor misses nothing;
  it handles some messages twice, as every handler may.
- PENSTOCK_CMD and PENSTOCK_CHANGES before all events. A command leaves its stream only after its
  events are stored: one that was accepted before the backup began is in the copy of the stream, or
  its events are in the copy of the log that is taken later. If in both, as those may be that were
  done in the second before, its id tells.
- PENSTOCK_SCHED and PENSTOCK_WORK before the events too, and neither is relied on: jobs that were
  queued, started or retried in between lack their item or timer, or have one too many. The
  service puts that right from the events (`Service.reconcile`); the fence makes doubles harmless.
- PENSTOCK_DEAD after all that is buried from, since a message is buried before it leaves there.
- The events: those of jobs first, so that what a handler caused before its job was completed is
  most likely in the logs that come later.
- The objects last: an object is stored before the first event that names it. Logs and objects
  from which something was purged while they were copied are copied again: it may have gone to the
  archive by an event that the copy does not have.

What was sent after the backup began may be in it or not, each message by itself; a dead letter that
is redriven meanwhile is sent then. Where an erasure that was sent then is not in it, what it
concerned is there after a restore, and its objects perhaps are not.

Left out is what others are made from: snapshots of aggregates (one that is newer than its log
would hide the events to come) and cache entries (one that was valid when it was copied may have
been invalidated by the time of the restore, by an event that the copy of the log does not have).
Both are empty after a restore and fill again.
"""

from __future__ import annotations

from penstock.contracts.subjects import SERVICES, Subjects


def in_order(subjects: Subjects) -> list[str]:
    """The streams of a backup, in the order in which they are copied."""
    jobs_first = sorted(SERVICES, key=lambda service: service != "jobs")
    return [
        *map(subjects.stream, ("cmd", "changes", "sched", "work", "dead")),
        *map(subjects.event_stream, jobs_first),
        f"OBJ_{subjects.stream('files')}",
    ]


def left_out(subjects: Subjects) -> list[str]:
    """The streams that are not copied, because they are made from the others."""
    return [subjects.stream("snap"), f"KV_{subjects.stream('cache')}"]


def must_be_whole(subjects: Subjects) -> dict[str, str]:
    """The streams of which nothing may be purged while they are copied, and which subjects."""
    bucket = subjects.stream("files")
    events = {subjects.event_stream(name): subjects.events(name) for name in SERVICES}
    return {**events, f"OBJ_{bucket}": f"$O.{bucket}.>"}
