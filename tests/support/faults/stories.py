"""What clients do: short sequences of commands on aggregates of their own, and on shared ones.

Pure: chance and names arrive as data. Among the commands are such that change nothing and such
that are refused.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import msgspec

from penstock.contracts.cache import InvalidateTag
from penstock.contracts.exports import Document, PutDocument, RequestExport, Segment
from penstock.contracts.jobs import Backoff, CancelJob, EnqueueJob
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
from penstock.contracts.search import DeleteDocument, IndexDocument

Step = tuple[str, str, msgspec.Struct]  # service, aggregate, command
WORDS = [
    "harvest",
    "barn",
    "river",
    "lantern",
    "market",
    "orchard",
    "winter",
    "ledger",
    "copper",
    "thimble",
]


def story(chance: random.Random, name: str) -> Iterator[Step]:
    """One sequence of commands, to be sent one after the other; `name` is used by no other."""
    kinds: list[Callable[[random.Random, str], Iterator[Step]]]
    kinds = [_progress, _progress, _search, _notifications, _cache, _jobs, _delayed_job, _export]
    return chance.choice(kinds)(chance, name)


def _progress(chance: random.Random, name: str) -> Iterator[Step]:
    def step(command: msgspec.Struct) -> Step:
        return "progress", name, command

    yield step(CreateProgress(stages=("read", "write"), metadata={"by": name}))
    for _ in range(chance.randrange(4)):
        yield step(UpdateProgress(percent=round(chance.uniform(0, 100), 1), message=name))
    for _ in range(chance.randrange(4)):
        yield step(AdvanceStage())  # the third is refused
    if chance.random() < 0.3:
        yield step(CreateProgress(stages=("read", "write"), metadata={"by": name}))
    ends = [CompleteProgress(), FailProgress(error="no"), CancelProgress(reason="enough")]
    end = chance.choice(ends)
    yield step(end)
    yield step(chance.choice([end, UpdateProgress(percent=1.0), *ends]))
    for _ in range(chance.randrange(3)):
        yield step(CleanupProgress())


def _search(chance: random.Random, name: str) -> Iterator[Step]:
    def text() -> IndexDocument:
        words = " ".join(chance.choices(WORDS, k=6))
        return IndexDocument(content=words, title=name, metadata={"n": chance.randrange(9)})

    first = text()
    yield "search", name, chance.choice([first, DeleteDocument()])
    yield "search", name, first
    yield "search", name, chance.choice([first, text()])
    for _ in range(chance.randrange(3)):
        yield "search", name, DeleteDocument()


def _notifications(chance: random.Random, name: str) -> Iterator[Step]:
    inbox = f"user:{name}"
    yield "notifications", inbox, chance.choice([MarkRead(through=9), SendNotification(content={})])
    for number in range(chance.randrange(1, 4)):
        yield "notifications", inbox, SendNotification(content={"n": number})
        yield "notifications", "channel:news", Broadcast(content={"from": name, "n": number})
    yield "notifications", inbox, MarkRead(through=chance.choice([1, 1_000_000]))
    yield "notifications", inbox, MarkRead()


def _cache(chance: random.Random, name: str) -> Iterator[Step]:
    for _ in range(4):
        yield "cache", f"tag{chance.randrange(5)}", InvalidateTag(reason=name)


def _jobs(chance: random.Random, name: str) -> Iterator[Step]:
    job = EnqueueJob(
        name="brief", payload={"n": 1}, max_attempts=100, backoff=Backoff(initial=0.0, maximum=0.0)
    )
    yield "jobs", name, job
    if chance.random() < 0.3:
        yield "jobs", name, chance.choice([job, EnqueueJob(name="other"), CancelJob()])


def _delayed_job(chance: random.Random, name: str) -> Iterator[Step]:
    yield "jobs", name, EnqueueJob(name="brief", payload={"n": 2}, delay=86_400)
    for _ in range(chance.randrange(3)):
        yield "jobs", name, CancelJob(reason="not needed")


def _export(chance: random.Random, name: str) -> Iterator[Step]:
    document = f"document:text/{name}"
    for number in range(chance.randrange(1, 3)):
        segments = (Segment(text=f"{name} {number}"),)
        put = PutDocument(document=Document(title=name, segments=segments))
        yield "exports", document, put
    request = RequestExport(kind="text", document=name, format="txt")
    yield "exports", name, request
    if chance.random() < 0.3:
        yield (
            "exports",
            name,
            chance.choice([request, msgspec.structs.replace(request, format="json")]),
        )


def probes(name: str) -> list[Step]:
    """One command to each service."""
    return [
        ("progress", name, CreateProgress()),
        ("notifications", "channel:news", Broadcast(content={"probe": name})),
        ("jobs", name, EnqueueJob(name="brief", payload={"n": 3}, max_attempts=100)),
        (
            "exports",
            f"document:text/{name}",
            PutDocument(document=Document(title=name, segments=())),
        ),
        ("cache", "tag0", InvalidateTag(reason=name)),
        ("search", name, IndexDocument(content="a probe", title=name)),
    ]
