"""The job `ingest`: read a file, transcribe or parse it, index its passages, export it.

Runs in a worker. Every step may run twice: a crash in between is finished by the next attempt.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from penstock.client import (
    Document,
    JobContext,
    PermanentFailure,
    SearchDocument,
    SearchQuery,
    Segment,
    Worker,
)
from penstock.demo.readers import Passage, UnreadableFile, kind_of
from penstock.demo.reading import read

AT_ONCE = 16  # passages on their way to the index
TICK = 1.0  # percent between two ticks
READ, UNDERSTOOD, INDEXED = 3.0, 60.0, 85.0  # percent of the whole when a stage is over
_WORD = re.compile(r"[^\W\d_]{5,}")
_COMMON = frozenset(  # English words of five letters and more that say nothing of a subject
    """about after again against because before being below between could doing during every
    first further having itself might other shall should since still their theirs there these
    thing things those through under until using where whether which while whose would
    yours""".split()  # noqa: SIM905 - a list of them would fill a page
)


class Ingested(msgspec.Struct, frozen=True):
    """What a job results in. `exports` maps a format to the id of its export."""

    job: str
    digest: str
    passages: int
    words: list[str]
    exports: dict[str, str]


def counted(passages: int) -> str:
    """So many passages, in words."""
    return "1 passage" if passages == 1 else f"{passages} passages"


def stages_of(path: Path) -> list[str]:
    """The stages that the file will go through."""
    return ["read", "transcribe" if path.suffix.lower() == ".wav" else "parse", "index", "export"]


def register(worker: Worker) -> None:
    """Let `worker` do these jobs."""

    @worker.register_handler("ingest")
    async def ingest(path: str, key: str, digest: str, user: str, ctx: JobContext) -> Ingested:
        file = Path(path)
        try:
            passages = await _read(file, ctx)
        except UnreadableFile as error:
            await _notify(ctx, user, f"{file.name} failed", str(error))
            raise PermanentFailure(str(error)) from error
        await _index(file, key, passages, ctx)
        exports = await _export(file, key, passages, ctx)
        await _notify(ctx, user, f"{file.name} is ready", counted(len(passages)))
        return Ingested(ctx.id, digest, len(passages), _frequent(passages), exports)


async def _read(file: Path, ctx: JobContext) -> list[Passage]:
    """The passages of the file, with a tick now and then while it is read."""
    _, understand, *_ = stages_of(file)
    await ctx.ps.progress.update(ctx.id, 0, stage="read")
    kind_of(file)
    await ctx.ps.progress.update(ctx.id, READ, stage=understand)
    told = READ

    async def tick(fraction: float) -> None:
        nonlocal told
        percent = READ + fraction * (UNDERSTOOD - READ)
        if percent - told >= TICK:
            told = percent
            await ctx.ps.progress.update(ctx.id, percent, stage=understand)

    return await read(file, tick)


async def _index(file: Path, key: str, passages: Sequence[Passage], ctx: JobContext) -> None:
    """Index every passage, and remove what an earlier, longer content left behind."""
    await ctx.ps.progress.update(ctx.id, UNDERSTOOD, stage="index")
    for start in range(0, len(passages), AT_ONCE):
        part = passages[start : start + AT_ONCE]
        await asyncio.gather(
            *(_index_one(file, key, start + i, p, ctx) for i, p in enumerate(part))
        )
        percent = UNDERSTOOD + (start + len(part)) / len(passages) * (INDEXED - UNDERSTOOD)
        await ctx.ps.progress.update(ctx.id, percent, stage="index")
    old = SearchQuery(query="", filters={"key": key, "number": {"gte": len(passages)}}, limit=1000)
    for hit in (await ctx.ps.search.search(old)).hits:
        await ctx.ps.search.delete(hit.id, command_id=f"{ctx.id}:delete:{hit.id}")


async def _index_one(file: Path, key: str, number: int, passage: Passage, ctx: JobContext) -> None:
    place = {"start": passage.start, "end": passage.end, "line": passage.line}
    metadata = {"key": key, "number": number, "file": str(file)}
    metadata |= {name: value for name, value in place.items() if value is not None}
    title = " / ".join((file.name, *passage.headings))
    document = SearchDocument(
        id=f"{key}#{number}", title=title, content=passage.text, metadata=metadata
    )
    await ctx.ps.search.index(document, command_id=f"{ctx.id}:index:{number}")


async def _export(
    file: Path, key: str, passages: Sequence[Passage], ctx: JobContext
) -> dict[str, str]:
    await ctx.ps.progress.update(ctx.id, INDEXED, stage="export")
    segments = tuple(
        Segment(text=p.text, start=p.start, end=p.end, speaker=p.speaker) for p in passages
    )
    document = Document(title=file.name, segments=segments, metadata={"source": str(file)})
    await ctx.ps.exports.put("transcript", key, document, command_id=f"{ctx.id}:put")
    timed = all(p.start is not None and p.end is not None for p in passages)
    made = {}
    for form in [*(["srt"] if timed else []), "json", "txt", "csv"]:
        export = await ctx.ps.exports.export(
            "transcript", key, form, id=f"{ctx.id}-{form}", async_mode=False
        )
        made[form] = export.id
    return made


async def _notify(ctx: JobContext, user: str, title: str, body: str) -> None:
    await ctx.ps.notifications.send(user, {"title": title, "body": body}, id=ctx.id)


def _frequent(passages: Sequence[Passage]) -> list[str]:
    """The words said most often, without the commonest of the language."""
    words = (word for p in passages for word in _WORD.findall(p.text.lower()))
    return [word for word, _ in Counter(w for w in words if w not in _COMMON).most_common(5)]
