"""The application: enqueues a job for each file, shows what happens, searches, fetches exports.

Everything it knows of the work it learns through `penstock.client`, as any application would.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import msgspec

from penstock.client import JobFailed, NotFound, Penstock, PenstockError, Worker
from penstock.client.flow import flow_lines
from penstock.demo.display import Display
from penstock.demo.files import SourceFile
from penstock.demo.ingest import Ingested, counted, register, stages_of
from penstock.demo.notices import Notices
from penstock.demo.search import best_hits, default_query

KEPT = timedelta(days=30)
LONGEST = 3600.0  # seconds that one file may take
ATTEMPTS = 20


class Done(msgspec.Struct, frozen=True):
    """A file that was ingested, now or earlier."""

    file: SourceFile
    result: Ingested
    from_cache: bool


async def run(
    files: Sequence[SourceFile], *, query: str | None, out: Path, user: str, display: Display
) -> int:
    """Ingest `files`, answer `query` and write the exports below `out`.

    The exit status: 0 if every file was ingested, else 1. Raises PenstockError if the system
    cannot be reached.
    """
    async with Penstock(actor=user) as ps, worker(), Notices(ps, user, display) as notices:
        with display:
            outcomes = await asyncio.gather(*(_ingest(ps, f, user, display) for f in files))
        done = [outcome for outcome in outcomes if outcome]
        await notices.all_of({d.result.job for d in done if not d.from_cache})
        if done:
            asked = query or default_query([d.result for d in done])
            display.hits(asked, await best_hits(ps, asked, [d.file.key for d in done]))
            display.paths([path for d in done for path in await _fetch(ps, d, out)])
            shown = next((d for d in done if not d.from_cache), done[0])
            display.flow(shown.file.shown, flow_lines(await ps.flow(shown.result.job)))
    return 0 if len(done) == len(files) else 1


def worker() -> Worker:
    """The worker that does the jobs; here it shares a process with the application."""
    made = Worker(queues=["ingest"], concurrency=2)
    register(made)
    return made


# -- one file --------------------------------------------------------------------------------


async def _ingest(ps: Penstock, file: SourceFile, user: str, display: Display) -> Done | None:
    """The file's result, from the cache where it stands; None if its job failed, which is shown."""
    fresh: list[Ingested] = []

    async def ingest() -> Ingested:
        fresh.append(await _job(ps, file, user, display))
        return fresh[0]

    try:
        await _tell_change(ps, file, display)
        result = await ps.cache.get_or_set(file.cache_key, ingest, ttl=KEPT, tags=[file.tag])
    except JobFailed as error:
        display.failed(file.shown, _reason(error))
        return None
    if not fresh:
        display.cached(file.shown, counted(result.passages))
    return Done(file, result, from_cache=not fresh)


async def _tell_change(ps: Penstock, file: SourceFile, display: Display) -> None:
    """If the cached result is of another content, say that the file changed: that lets go of it."""
    known: Ingested | None = await ps.cache.get(file.cache_key, returns=Ingested)
    if known is not None and known.digest != file.digest:
        await ps.changes.publish("file", file.key)
        display.changed(file.shown)


async def _job(ps: Penstock, file: SourceFile, user: str, display: Display) -> Ingested:
    job = await _next_run(ps, file)
    stages = stages_of(file.path)
    with ps.correlated(job):
        await ps.progress.create(job, stages=stages, metadata={"file": file.shown})
        payload = {"path": str(file.path), "key": file.key, "digest": file.digest, "user": user}
        await ps.jobs.enqueue("ingest", payload, id=job, queue="ingest", max_attempts=ATTEMPTS)
        watching = asyncio.create_task(_show(ps, job, file, display))
        try:
            result = await ps.jobs.result(job, timeout=LONGEST)
            # Not in the handler: were it killed just after, its next attempt could say no more.
            await ps.progress.complete(job)
        except JobFailed as error:
            await ps.progress.fail(job, _reason(error))
            raise
        finally:
            await asyncio.wait((watching,), timeout=2)
            watching.cancel()
    return msgspec.convert(result, Ingested)


def _reason(error: JobFailed) -> str:
    """What the handler said, without what the job system says around it."""
    return str(error.fields.get("message") or error)


async def _next_run(ps: Penstock, file: SourceFile) -> str:
    """The job of this content: the one under way, or the next after those that failed."""
    run = 1
    while True:
        try:
            job = await ps.jobs.get(file.job(run))
        except NotFound:
            return file.job(run)
        if job.state not in ("failed", "cancelled"):
            return file.job(run)
        run += 1


async def _show(ps: Penstock, job: str, file: SourceFile, display: Display) -> None:
    async for state in ps.progress.watch(job):
        display.progress(file.shown, state)


async def _fetch(ps: Penstock, done: Done, out: Path) -> list[Path]:
    """Download the file's exports. Raises PenstockError if one is empty."""
    paths = []
    for form, export in done.result.exports.items():
        path = out / f"{_under(out, done.file)}.{form}"
        path.parent.mkdir(parents=True, exist_ok=True)
        await ps.exports.download(export, path)
        if not path.stat().st_size:
            raise PenstockError(f"The export {path} is empty.")
        paths.append(path)
    return paths


def _under(out: Path, file: SourceFile) -> Path:
    """Where below `out` the exports of `file` go: as it lies here, or by its key if elsewhere."""
    inside = Path(file.shown)
    return Path(file.key) if inside.is_absolute() else inside
