"""The usual ones of many jobs: those that are offered at once and ask nobody, and of which most
differ in nothing but their payload. What they have in common is decided and encoded once.

What becomes of them is what would become of each by itself. Never stores anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec.structs import replace

from penstock.contracts.envelope import Envelope
from penstock.contracts.form import Form, hole
from penstock.contracts.jobs import MAX_INLINE, SERVICE, EnqueueJob
from penstock.contracts.jobs_bulk import JobSpec
from penstock.contracts.subjects import EXPECTED, MSG_ID, Subjects, stands_for_itself
from penstock.infra.bus import Message
from penstock.infra.deciding.decider import Context
from penstock.jobs.bulk_items import event_of, is_asking_nobody, own_command
from penstock.jobs.dispatch import is_plain
from penstock.jobs.domain import PREFIXES
from penstock.jobs.job import Offer, decide, next_step
from penstock.jobs.job_evolve import evolve
from penstock.jobs.offers import envelope_of

KINDS = 8  # forms of one command; a job of yet another kind goes the way of one by itself
NOTHING: dict[str, object] = {}
NEW = {EXPECTED: "0"}

Refuses = Callable[[EnqueueJob], object]

_decode = msgspec.json.Decoder(JobSpec).decode
_encode = msgspec.json.Encoder().encode


class UsualJob(msgspec.Struct, gc=False):
    """One of a command: its place there, the id that its own command would have, and the rest."""

    index: int
    id: str
    key: str
    payload: bytes
    time: bytes
    kind: Kind


class Kind:
    """What jobs with the same options have in common. Raises ValueError if they are unusual."""

    def __init__(self, command: Envelope, options: JobSpec, subjects: Subjects) -> None:
        own = own_command(command, "id", "id", msgspec.Raw(b"null"))
        [queued] = decide(None, options, Context(command.time, own))
        event = event_of(own, queued, command.time)
        state = evolve(None, queued, event)
        step = next_step(state, 0)
        if not (is_asking_nobody(options) and is_plain(state) and isinstance(step, Offer)):
            raise ValueError("These jobs go each the way of one by itself.")
        id, subject, time, payload, cause = hole(), hole(), hole(), hole(), hole()
        data = msgspec.Raw(_encode(replace(queued, payload=payload)))
        stored = replace(event, id=id, subject=subject, time=time, data=data, causationid=cause)
        self._event = Form(stored, id, subject, time, payload, cause)
        ready = replace(step.ready, payload=payload, sequence=(sequence := hole()))
        item = envelope_of(state, event, ready, command.time)
        own_time = hole()
        offered = replace(
            item,
            id=id,
            subject=subject,
            time=time,
            causationid=cause,
            causationtime=own_time,
        )
        self._item = Form(offered, id, subject, time, payload, sequence, cause, own_time)
        self._events = subjects.event(SERVICE, "id").removesuffix("id")
        self._items = subjects.work(state.queue, state.priority, "id").removesuffix("id")

    def event(self, job: UsualJob) -> Message:
        """The first event of a job, which must have none before."""
        key = job.key
        body = self._event.fill(
            _encode(f"{key}:1"), _encode(job.id), job.time, job.payload, _encode(key)
        )
        return self._events + job.id, body, NEW

    def item(self, job: UsualJob, sequence: int, now: bytes) -> Message:
        """The work item of a job whose event stands at `sequence`."""
        id = job.id
        item = f"{id}:{sequence}"
        body = self._item.fill(
            _encode(item),
            _encode(id),
            now,
            job.payload,
            b"%d" % sequence,
            _encode(f"{job.key}:1"),
            job.time,
        )
        return self._items + id, body, {MSG_ID: item}


def usual(
    command: Envelope, jobs: Sequence[msgspec.Raw], subjects: Subjects, refuses: Refuses
) -> Iterator[UsualJob]:
    """Those of a command's jobs that are usual, each id once. `refuses` tells who may not enter."""
    kinds, seen = Kinds(command, subjects), {command.subject}
    now = datetime.now(UTC)
    for index, raw in enumerate(jobs):
        try:
            spec = _decode(raw)
        except msgspec.DecodeError:
            continue  # why it is not valid is told where jobs go one by one
        key = f"{command.id}-{index}"
        id = key if spec.id is None else spec.id
        if id in seen:
            continue
        seen.add(id)
        kind = kinds.of(spec)
        if kind is None or refuses(spec):
            continue
        payload = _encode(spec.payload)
        if len(payload) > MAX_INLINE or id.startswith(PREFIXES) or not stands_for_itself(id):
            continue
        # What came first in the command has its turn first.
        time = _encode(now + index * timedelta.resolution)
        yield UsualJob(index, id, key, payload, time, kind)


class Kinds:
    """Those of one command that were met so far, with None for those that are unusual."""

    def __init__(self, command: Envelope, subjects: Subjects) -> None:
        self._command = command
        self._subjects = subjects
        self._known: list[tuple[JobSpec, Kind | None]] = []

    def of(self, spec: JobSpec) -> Kind | None:
        """The kind of a job; None if it is unusual."""
        if spec.delay or spec.run_at:  # each may have another
            return None
        options = replace(spec, id=None, payload=NOTHING)
        for known, kind in self._known:
            if known == options:
                return kind
        if len(self._known) == KINDS:
            return None
        found = self._made(options)
        self._known.append((options, found))
        return found

    def _made(self, options: JobSpec) -> Kind | None:
        try:
            return Kind(self._command, options, self._subjects)
        except ValueError:
            return None
