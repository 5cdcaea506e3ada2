"""A crash between any two steps of any handler is finished when the command comes again.

One walk for all: each handler is run once to its end, and then once more for each thing that it
sends, dead before it. What another instance then makes of the same command has to be the same as
without a crash: the same answer, events, work items, timers and files, and each once.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.cache.domain import invalidations
from penstock.cli.builders import builders
from penstock.contracts.answers import Outcome
from penstock.contracts.cache import InvalidateTag
from penstock.contracts.changes import EntityChanged
from penstock.contracts.envelope import Envelope, decode, type_of, unwrap, wrap
from penstock.contracts.errors import PenstockError
from penstock.contracts.exports import (
    Document,
    PutDocument,
    PutStoredDocument,
    RequestExport,
    Segment,
    encode_document,
)
from penstock.contracts.jobs import (
    CancelJob,
    DiscardJob,
    EnqueueJob,
    FailJob,
    JobDue,
    JobError,
    Limit,
    Moved,
    Rate,
    RedriveJob,
    Rules,
    SettleJob,
)
from penstock.contracts.jobs_bulk import (
    DiscardJobs,
    EnqueueJobs,
    JobAt,
    JobSpec,
    RedriveJobs,
    SettleJobs,
)
from penstock.contracts.lifecycle import ARCHIVE, ERASE
from penstock.contracts.notifications import Broadcast, MarkRead, SendNotification
from penstock.contracts.progress import (
    AdvanceStage,
    CancelProgress,
    CleanupProgress,
    CompleteProgress,
    CreateProgress,
    FailProgress,
    UpdateProgress,
)
from penstock.contracts.queues import (
    DrainQueue,
    PauseQueue,
    PurgeQueue,
    ResumeQueue,
    SetWeight,
)
from penstock.contracts.schedules import (
    DeleteSchedule,
    JobTemplate,
    PauseSchedule,
    PutSchedule,
    ResumeSchedule,
    ScheduleTicked,
    Timing,
    TriggerSchedule,
    tick_id,
)
from penstock.contracts.search import DeleteDocument, IndexDocument
from penstock.contracts.subjects import SERVICES, token
from penstock.contracts.workflows import (
    AdvanceWorkflow,
    CancelWorkflow,
    JobEnded,
    RestartWorkflow,
    StartWorkflow,
)
from penstock.contracts.workflows import Step as Stage
from penstock.exports.documents import Documents
from penstock.exports.exporter import Exporter
from penstock.exports.histories import Histories
from penstock.exports.renderer import Renderer
from penstock.infra.bus import Bus
from penstock.infra.objects import Objects
from penstock.infra.repeated import Repeated
from penstock.infra.sender import Sender
from penstock.infra.service import Frame, Service
from penstock.infra.settings import Settings
from penstock.infra.streams import provision
from penstock.jobs import admission_sweep
from penstock.jobs.schedule_runner import ScheduleRunner
from support.dying import Died, MortalBus, living
from support.streams import everything

TALK = Document(title="T", segments=(Segment(text="a", start=0, end=1),))
MOST = 60  # things that a handler may send: more are a loop
TIME = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)

create = CreateProgress(stages=("one", "two"))
enqueue = EnqueueJob(name="greet", payload={"name": "Ada"})
fail = FailJob(error=JobError(type="Unhandled", message="nobody knows it"), cause="unhandled")
unique = msgspec.structs.replace(enqueue, rules=Rules(unique_key="ID"))
places = Rules(
    tenant="ID", limit=Limit(key="ID", at_most=1), rate=Rate(key="ID", at_most=1, per=60.0)
)
gated = msgspec.structs.replace(enqueue, rules=places)
moved = Moved(id="ID", sequence=1, started=TIME)
many = EnqueueJobs(
    jobs=tuple(
        msgspec.Raw(msgspec.json.encode(job))
        for job in (
            JobSpec(name="greet", payload={"id": "ID"}),
            JobSpec(name="greet", payload={"id": "ID"}, delay=3600.0),
            JobSpec(id="ID", name="greet", payload={"name": "Ada"}),
            JobSpec(id="ID", name="greet", payload={"id": "ID"}),
            JobSpec(name="greet", payload={"id": "ID"}, rules=Rules(timeout=60.0)),
            JobSpec(id="queue:ID", name="greet"),
            {"name": 1},
        )
    )
)
dead = tuple(JobAt(id=id, sequence=0) for id in ("ID-1", "ID-2", "ID-3", "ID-4", "ID-1"))
deaths = [
    step
    for id, command in (("ID-1", enqueue), ("ID-2", unique), ("ID-3", enqueue))
    for step in ((id, command), (id, fail))
]
put_schedule = PutSchedule(job=JobTemplate(name="greet"), timing=Timing(cron="@yearly"))
put = PutDocument(document=TALK)
index = IndexDocument(content="straw into gold")
erase = {service: ERASE[service](reason="asked for") for service in SERVICES}

two = StartWorkflow(steps=(Stage(key="a", name="a"), Stage(key="b", name="b", after=("a",))))
lost = AdvanceWorkflow(job="ID.a", how="failed", error="boom")
wide = StartWorkflow(
    steps=(
        *(Stage(key=f"s{n}", name="s") for n in range(3)),
        Stage(key="each", name="each", each=(1, 2, 3), payload={"x": {"$item": True}}),
        Stage(key="last", name="last", after=("s0", "s1", "s2", "each")),
    ),
)
ends = AdvanceWorkflow(
    job="ID.each.0",
    how="completed",
    more=tuple(
        JobEnded(job=f"ID.{job}", how="completed")
        for job in ("each.1", "each.2", "s0", "s1", "s2", "s2")
    ),
)

Step = tuple[str, msgspec.Struct]  # the aggregate, ID standing for the run's own, and a command
CASES: dict[str, list[Step]] = {
    "create": [("ID", create)],
    "update": [("ID", create), ("ID", UpdateProgress(percent=40, stage="one"))],
    "advance": [("ID", create), ("ID", AdvanceStage())],
    "complete": [("ID", create), ("ID", CompleteProgress())],
    "fail": [("ID", create), ("ID", FailProgress(error="boom"))],
    "cancel": [("ID", create), ("ID", CancelProgress())],
    "clean up": [("ID", create), ("ID", CleanupProgress())],
    "refused": [("ID", UpdateProgress(percent=40))],
    "nothing to do": [("ID", create), ("ID", create)],
    "enqueue": [("ID", enqueue)],
    "enqueue for later": [("ID", msgspec.structs.replace(enqueue, delay=3600.0))],
    "enqueue many": [("ID", enqueue), ("batch-ID", many)],
    "cancel a job": [("ID", enqueue), ("ID", CancelJob())],
    "cancel a timer": [("ID", msgspec.structs.replace(enqueue, delay=3600.0)), ("ID", CancelJob())],
    "fail a job": [("ID", enqueue), ("ID", fail)],
    "redrive": [("ID", enqueue), ("ID", fail), ("ID", RedriveJob())],
    "discard": [("ID", enqueue), ("ID", fail), ("ID", DiscardJob())],
    "redrive many": [*deaths, ("batch-ID", RedriveJobs(jobs=dead))],
    "discard many": [*deaths, ("batch-ID", DiscardJobs(jobs=dead))],
    "settle": [("ID", enqueue), ("ID", SettleJob())],
    "let the next one through": [
        ("ID-1", gated),
        ("ID", gated),
        ("ID-1", CancelJob()),
    ],
    "settle many": [
        ("ID", gated),
        ("ID-2", enqueue),
        ("settled-ID", SettleJobs(jobs=("ID", "ID-2"), moved=(moved,))),
    ],
    "pause a queue": [("queue:ID", PauseQueue())],
    "resume a queue": [("queue:ID", PauseQueue()), ("queue:ID", ResumeQueue())],
    "drain a queue": [("queue:ID", DrainQueue())],
    "purge a queue": [
        ("ID-1", msgspec.structs.replace(enqueue, queue="ID")),
        ("ID-2", msgspec.structs.replace(enqueue, queue="ID", delay=3600.0)),
        ("ID-3", msgspec.structs.replace(gated, queue="ID")),
        ("ID-4", msgspec.structs.replace(gated, queue="ID")),
        ("queue:ID", PurgeQueue()),
    ],
    "weigh a tenant": [("queue:ID", SetWeight(tenant="a", weight=3))],
    "enqueue with a unique key": [("ID", unique)],
    "enqueue a second one": [("ID-1", unique), ("ID", unique)],
    "enqueue at gates": [("ID", gated)],
    "cancel at gates": [("ID", gated), ("ID", CancelJob())],
    "settle at gates": [("ID", gated), ("ID", SettleJob(moved=moved))],
    "put a schedule": [("schedule:ID", put_schedule)],
    "pause": [("schedule:ID", put_schedule), ("schedule:ID", PauseSchedule())],
    "resume": [
        ("schedule:ID", put_schedule),
        ("schedule:ID", PauseSchedule()),
        ("schedule:ID", ResumeSchedule()),
    ],
    "trigger": [("schedule:ID", put_schedule), ("schedule:ID", TriggerSchedule())],
    "delete a schedule": [("schedule:ID", put_schedule), ("schedule:ID", DeleteSchedule())],
    "erase a schedule": [("schedule:ID", put_schedule), ("schedule:ID", erase["jobs"])],
    "start a workflow": [("workflow:ID", two)],
    "end a step": [
        ("workflow:ID", two),
        ("workflow:ID", msgspec.structs.replace(lost, how="completed")),
    ],
    "start a workflow of many jobs": [("workflow:ID", wide)],
    "end many jobs of a workflow": [("workflow:ID", wide), ("workflow:ID", ends)],
    "cancel a workflow of many jobs": [("workflow:ID", wide), ("workflow:ID", CancelWorkflow())],
    "fail a step": [("workflow:ID", two), ("workflow:ID", lost)],
    "cancel a workflow": [("workflow:ID", two), ("workflow:ID", CancelWorkflow())],
    "restart a workflow": [
        ("workflow:ID", two),
        ("workflow:ID", lost),
        ("workflow:ID", RestartWorkflow()),
    ],
    "cancel a job of a workflow": [("workflow:ID", two), ("ID.a", CancelJob())],
    "send": [("user:ID", SendNotification(content={"text": "hi"}))],
    "broadcast": [("channel:ID", Broadcast(content={"text": "hi"}))],
    "mark read": [
        ("user:ID", SendNotification(content={"text": "hi"})),
        ("user:ID", MarkRead(through=1_000_000)),
    ],
    "put": [("document:k/ID", put)],
    "put stored": [("document:k/ID", PutStoredDocument(content=encode_document(TALK)[1]))],
    "request": [
        ("document:k/ID", put),
        ("ID", RequestExport(kind="k", document="ID", format="txt")),
    ],
    "invalidate": [("ID", InvalidateTag())],
    "index": [("ID", index)],
    "delete": [("ID", index), ("ID", DeleteDocument())],
    "erase a progress": [("ID", create), ("ID", erase["progress"])],
    "erase a job": [("ID", enqueue), ("ID", erase["jobs"])],
    "erase a document": [
        ("document:k/ID", put),
        ("ID-x", RequestExport(kind="k", document="ID", format="txt")),
        ("document:k/ID", erase["exports"]),
    ],
    "erase a search document": [("ID", index), ("ID", erase["search"])],
}


# Where what a crash leaves is another job's, which waits for the next look at the gates.
SWEPT = ("let the next one through",)


class Instances:
    """Two instances of every service: one that may die, and one that takes over."""

    def __init__(self, mortal: dict[str, Service[Any]], other: dict[str, Service[Any]]) -> None:
        self.mortal = mortal
        self.other = other
        self.bus: Bus = other["jobs"].bus


@pytest.fixture
async def instances(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Instances]:
    async with (
        await MortalBus.connect(nats_url, prefix=prefix) as mortal,
        await Bus.connect(nats_url, prefix=prefix) as immortal,
    ):
        await provision(immortal)
        await Objects(immortal).put("documents/x", b"x")
        made = [_services(bus, tmp_path / str(n)) for n, bus in enumerate((mortal, immortal))]
        for service in (s for services in made for s in services.values()):
            service.projector.start()
        yield Instances(*made)
        for service in (s for services in made for s in services.values()):
            await service.projector.stop()
            await service.log.close()
            service.model.close()


def _services(bus: Bus, directory: Path) -> dict[str, Service[Any]]:
    settings = Settings(prefix=bus.subjects.prefix, durability="os")
    frame = Frame(bus=bus, settings=settings, views=directory, secret="s" * 32)
    return {name: build(frame) for name, build in builders().items()}


def named(step: Step, id: str, number: int) -> Envelope:
    subject, data = step
    text = msgspec.json.encode(data).replace(b'"ID', b'"' + id.encode())
    return wrap(
        msgspec.json.decode(text, type=type(data)),
        id=f"{id}-c{number}",
        subject=subject.replace("ID", id),
        time=TIME,
        correlationid=f"flow-{id}",
    )


Handle = Callable[[Envelope], Awaitable[Outcome]]


async def answer(services: dict[str, Service[Any]], command: Envelope) -> Any:
    """The outcome, or the refusal, as far as it is the same in every run."""
    service = services[command.type.split(".")[1]]
    try:
        outcome = await service.decider.handle(command)
    except PenstockError as error:
        return type(error).__name__, str(error)
    return plain(outcome.data)


def plain(body: bytes | msgspec.Raw) -> str:
    """JSON without what differs from run to run: times, sequences, and what is made of them."""
    text = bytes(body).decode()
    text = re.sub(r'"\d{4}-\d\d-\d\dT[^"]*"', '"TIME"', text)
    text = re.sub(r'"counts":\[\[.*', '"counts":0}', text)  # of a tally, and all behind them
    return re.sub(r'"(sequence|sequences|item|nuid|mtime)":(\[[\d,]*\]|"?\w+"?)', r'"\1":0', text)


async def effects(bus: Bus, id: str) -> Counter[str]:
    """What all streams hold of a run, each message as a line; decisions are nobody's business."""
    names = ["cmd", "work", "sched", "files", *(f"ev_{service}" for service in SERVICES)]
    found: Counter[str] = Counter()
    for name in names:
        stream = bus.subjects.stream(name)
        for message in await everything(bus, f"OBJ_{stream}" if name == "files" else stream):
            if b".decision." not in message and (line := _line(message, id)):
                found[line] += 1
    return found


def _line(message: bytes, id: str) -> str | None:
    subject, _, rest = message.partition(b"\n")
    body = rest.rpartition(b"\n")[2]
    if token(id).encode() not in subject and id.encode() not in body:
        return None
    try:
        event = decode(body)
    except PenstockError:
        return f"{subject.decode()} {plain(body)}".replace(id, "ID")
    name = "" if b".work." in subject else event.id  # an item's has a sequence in it
    line = f"{subject.decode()} #{event.version} {name} {event.type} {plain(event.data)}"
    return line.replace(id, "ID")


async def seen(instances: Instances, command: Envelope) -> Envelope:
    """The command with the jobs as they are now, where it tells how its caller saw them."""
    data = unwrap(command)
    if not isinstance(data, RedriveJobs | DiscardJobs):
        return command
    loaded = [await instances.other["jobs"].log.load(job.id) for job in data.jobs]
    sequences = [one.sequence for one in loaded]
    for services in (instances.mortal, instances.other):
        await services["jobs"].projector.reached(max(sequences), 30)
    at = zip(data.jobs, sequences, strict=True)
    jobs = tuple(JobAt(id=job.id, sequence=sequence) for job, sequence in at)
    changed = msgspec.structs.replace(data, jobs=jobs)
    body = msgspec.Raw(msgspec.json.encode(changed))
    return msgspec.structs.replace(command, data=body)


async def level(instances: Instances) -> None:
    """Both instances know of all that happened: what they do with it depends on that."""
    for services in (instances.mortal, instances.other):
        await services["jobs"].projector.reach_end()


async def sweep(instances: Instances) -> None:
    """Look for those that have their places and were not offered, as each instance does."""
    await level(instances)
    parts = [p for p in instances.other["jobs"].parts if isinstance(p, Repeated)]
    [look] = [p._look for p in parts if p._name == "search for jobs that may pass their gates"]
    for _ in range(admission_sweep.EVERY):
        await look()


async def run(
    instances: Instances, steps: list[Step], id: str, sends: int, *, swept: bool = False
) -> tuple[Any, Counter[str], bool]:
    """Carry out all steps, the last one dead before its next send and then by another instance."""
    *before, last = [named(step, id, number) for number, step in enumerate(steps)]
    for command in before:
        await answer(instances.other, command)
    last = await seen(instances, last)
    await level(instances)
    with living(sends) as life:
        try:
            await answer(instances.mortal, last)
        except Died:
            assert life.died
    await level(instances)
    first = await answer(instances.other, last)
    assert await answer(instances.other, last) == first, "answered otherwise the next time"
    if life.died and swept:
        await sweep(instances)
    told = re.sub(re.escape(id), "ID", str(first))
    return told, await effects(instances.bus, id), life.died


@pytest.mark.parametrize("case", CASES)
async def test_a_crash_before_any_step_changes_nothing(instances: Instances, case: str) -> None:
    steps = CASES[case]
    whole, stored, died = await run(instances, steps, "r-whole", MOST)
    assert not died, f"{case} sends more than {MOST} things"
    sends = 0
    while died or sends == 0:
        got, effect, died = await run(instances, steps, f"r-{sends}", sends, swept=case in SWEPT)
        assert (got, effect) == (whole, stored), f"differs after a crash before send {sends}"
        sends += 1
    assert sends > 2, "it never died: nothing was tried"


async def render(services: dict[str, Service[Any]], event: Envelope) -> Any:
    """Carry out an export that was asked for; what became of it."""
    service = services["exports"]
    objects = Objects(service.bus)
    renderer = Renderer(objects, service.model.path.parent, at_once=1)
    documents = Documents(objects, Histories(objects, Sender(service.bus)))
    try:
        await Exporter(service.log, service.decider, documents, renderer).handle(event)
    finally:
        await renderer.stop()
    state = (await service.decider.load(event.subject)).state
    assert state is not None
    return plain(msgspec.json.encode(msgspec.structs.replace(state, attempts=0)))


async def let_go(services: dict[str, Service[Any]], change: Envelope) -> Any:
    """Invalidate the tags that a change of the application concerns."""
    commands = invalidations(change, unwrap(change), 7)
    outcomes = [await services["cache"].decider.handle(command) for command in commands]
    return [plain(outcome.data) for outcome in outcomes]


async def tick(services: dict[str, Service[Any]], put: Envelope) -> Any:
    """The timer of a schedule that was put goes off."""
    jobs = services["jobs"]
    first = (await jobs.log.load(put.subject)).events[0]
    await runner(services).due(put.subject, JobDue(sequence=first.sequence))
    return plain(msgspec.json.encode((await jobs.decider.load(put.subject)).state))


def runner(services: dict[str, Service[Any]]) -> ScheduleRunner:
    jobs = services["jobs"]
    return ScheduleRunner(jobs.bus, jobs.log, jobs.decider.load, jobs.decider.handle)


async def scheduled(instances: Instances, id: str) -> Envelope:
    await answer(instances.other, put := named(CASES["put a schedule"][0], id, 0))
    return put


async def requested(instances: Instances, id: str) -> Envelope:
    for number, step in enumerate(CASES["request"]):
        await answer(instances.other, named(step, id, number))
    loaded = await instances.other["exports"].log.load(id)
    return loaded.events[0].event


async def changed(_: Instances, id: str) -> Envelope:
    change = EntityChanged(entity=f"{id}-user", id=id, tags=(f"{id}-a", f"{id}-b"))
    return wrap(change, id=f"change-{id}", subject=id, time=TIME, correlationid="f")


OTHERS = {
    "render": (requested, render),
    "let go": (changed, let_go),
    "tick": (scheduled, tick),
}
BEGUN = "penstock.exports.started.v1"  # an export may be begun again; it ends once


@pytest.mark.parametrize("case", OTHERS)
async def test_a_crash_of_those_that_work_off_events_changes_nothing(
    instances: Instances, case: str
) -> None:
    prepare, handle = OTHERS[case]

    async def walked(id: str, sends: int) -> tuple[str, Counter[str], bool]:
        event = await prepare(instances, id)
        with living(sends) as life:
            try:
                await handle(instances.mortal, event)
            except Died:
                assert life.died
        first = await handle(instances.other, event)
        assert await handle(instances.other, event) == first
        stored = await effects(instances.bus, id)
        kept = {re.sub("#.*? ", "", line): n for line, n in stored.items() if BEGUN not in line}
        return str(first).replace(id, "ID"), Counter(kept), life.died

    whole, stored, died = await walked("r-whole", MOST)
    assert not died
    sends = 0
    while died or sends == 0:
        got, effect, died = await walked(f"r-{sends}", sends)
        assert got == whole, f"ends otherwise after a crash before send {sends}"
        assert sum(effect.values()) == sum(stored.values()), f"differs before send {sends}"
        sends += 1
    assert sends > 3


async def timer_goes_off(instances: Instances, put: Envelope) -> None:
    """The one that is set now: perhaps of the next tick, before the one in hand comes again."""
    bus = instances.bus
    request = {"last_by_subj": bus.subjects.timer("jobs", put.subject)}
    [timer] = await bus.direct_get(bus.subjects.stream("sched"), request)
    await runner(instances.other).due(put.subject, unwrap(decode(timer.data)))


async def command_comes(instances: Instances, put: Envelope) -> None:
    pause = named((put.subject, PauseSchedule()), put.id, 1)
    await answer(instances.other, pause)


@pytest.mark.parametrize("then", [timer_goes_off, command_comes])
async def test_a_tick_that_a_crash_left_is_finished_by_whatever_comes_next(
    instances: Instances, then: Callable[[Instances, Envelope], Awaitable[None]]
) -> None:
    log = instances.other["jobs"].log
    died, sends = True, 0
    while died:
        put = await scheduled(instances, f"r-{sends}")
        with living(sends) as life:
            try:
                await tick(instances.mortal, put)
            except Died:
                assert life.died
        await then(instances, put)
        events = [unwrap(record.event) for record in (await log.load(put.subject)).events]
        for at in (at for data in events if isinstance(data, ScheduleTicked) for at in data.run):
            job = await log.load(tick_id(f"r-{sends}", at))
            assert len(job.events) == 1, f"after a crash before send {sends}"
        died, sends = life.died, sends + 1
    assert sends > 3


def test_every_command_of_every_service_is_walked() -> None:
    from penstock.contracts.envelope import messages

    walked = {str(type_of(type(data))) for steps in CASES.values() for _, data in steps}
    every = {name for service in SERVICES for name in messages(service, "command")}
    own = {str(type_of(of[service])) for of in (ERASE, ARCHIVE) for service in SERVICES}
    # The frame's: erasing is walked where a service has stores beside its events, and archiving
    # in its own test, since it is for many at a time.
    assert every - walked <= own
