"""`penstock backup` and `restore`: under traffic, killed, tampered with, and in the wrong place."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest

from penstock.client import Penstock
from penstock.client.discovery import find_system
from penstock.contracts.envelope import unwrap
from penstock.contracts.exports import ExportCompleted
from penstock.contracts.job_state import JobState
from penstock.contracts.subjects import SERVICES
from penstock.infra.backup import Manifest, read_manifest
from penstock.infra.backup.contents import identity
from penstock.infra.bus import Bus
from penstock.infra.data_directory import DataDirectory
from penstock.infra.event_log import JetStreamEventLog, Recorded
from penstock.infra.testing import shared_nats
from support.command_line import CLEAN, PENSTOCK, UP, assert_one_clear_line, penstock, penstock_up
from support.processes import kill_tree
from support.traffic import Traffic, worker

SETTLED = 40.0  # seconds for all jobs and exports to end
Logs = dict[str, list[Recorded]]


async def command(*arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(penstock, *arguments, directory=directory, environ=UP)


def url_of(directory: Path) -> str:
    system = find_system(directory)
    assert system
    return system.nats_url


@asynccontextmanager
async def client(directory: Path) -> AsyncIterator[Penstock]:
    system = find_system(directory)
    assert system
    async with Penstock(system.nats_url, http_url=system.http_url) as ps:
        yield ps


async def raw_events(bus: Bus, service: str, last: int) -> list[bytes]:
    """Every event up to `last`, byte for byte with its place and time."""
    found: list[bytes] = []
    after = 0
    while after < last:
        stream = bus.subjects.event_stream(service)
        batch = await bus.direct_get(stream, {"seq": after + 1, "batch": 500})
        if not batch:
            break
        found += [identity(message) for message in batch if message.sequence <= last]
        after = batch[-1].sequence
    return found


async def events(bus: Bus) -> Logs:
    return {s: [r async for r in JetStreamEventLog(bus, s).read()] for s in SERVICES}


def lasts(manifest: Manifest) -> dict[str, int]:
    found = {copy.name: copy.contents.last for copy in manifest.streams if copy.contents}
    return {service: found[f"PENSTOCK_EV_{service.upper()}"] for service in SERVICES}


async def all_over(ps: Penstock, logs: Logs) -> None:
    """Wait until every job and every export of `logs` has come to its end."""
    async with asyncio.timeout(SETTLED):
        for id in {r.event.subject for r in logs["jobs"]}:
            async for job in ps.jobs.watch(id):
                assert job.state not in ("failed", "cancelled"), job
        for id in {r.event.subject for r in logs["exports"]}:
            if not id.startswith("document:"):
                async for export in ps.exports.watch(id):
                    assert export.error is None


def folded(service: str, log: list[Recorded]) -> dict[str, Any]:
    """The state of each aggregate, as plain data, by a fold of our own."""
    evolve = import_module(f"penstock.{service}.domain").evolve
    states: dict[str, Any] = {}
    for record in log:
        id = record.event.subject
        states[id] = evolve(states.get(id), unwrap(record.event), record.event)
    return {id: msgspec.json.decode(msgspec.json.encode(state)) for id, state in states.items()}


def viewed(data: Path, service: str) -> dict[str, Any]:
    """The same as the running service's view has it."""
    [view] = (data / "views").glob(f"{service}.*.sqlite")
    db = apsw.Connection(str(view), apsw.SQLITE_OPEN_READONLY)
    rows: Any = db.execute("SELECT id, state FROM aggregate").fetchall()
    db.close()
    return {id: msgspec.json.decode(state) for id, state in rows}


async def test_what_was_acknowledged_before_a_backup_under_traffic_is_there_after_the_restore(
    tmp_path: Path,
) -> None:
    here, there, copy = tmp_path / "here", tmp_path / "there", tmp_path / "copy"
    here.mkdir()
    there.mkdir()
    with penstock_up(here) as process:
        async with client(here) as ps, AsyncExitStack() as stack:
            bus, traffic = ps.session.bus, Traffic(ps)
            await stack.enter_async_context(worker(url_of(here), Counter()))
            async with traffic.running():
                await asyncio.sleep(1.0)
                begun = time.time()
                result = await command("backup", str(copy), directory=here)
                assert result.returncode == 0, result.stderr
            manifest = read_manifest(copy)
            then = lasts(manifest)
            original = {s: await raw_events(bus, s, last) for s, last in then.items()}
            jobs_then = await states_at(ps, then["jobs"])
        kill_tree(process.pid)
    assert "verified" in result.stdout and "not verified" not in result.stdout

    result = await command("restore", str(copy), directory=there)
    assert result.returncode == 0, result.stderr
    calls: Counter[str] = Counter()
    with penstock_up(there) as process:
        async with client(there) as ps, AsyncExitStack() as stack:
            bus = ps.session.bus
            for service, last in then.items():
                assert await raw_events(bus, service, last) == original[service], service
            assert await states_at(ps, then["jobs"]) == jobs_then
            await stack.enter_async_context(worker(url_of(there), calls))
            await has_effects(bus, traffic, begun)
            await all_over(ps, await events(bus))
            logs = await events(bus)
            check_jobs(logs, calls, then["jobs"])
            await check_exports(ps, logs)
            await check_views(there / ".penstock", logs)
            for service in ("jobs", "exports"):
                verified = await asyncio.to_thread(penstock, "verify", service, directory=there)
                assert verified.returncode == 0, verified.stdout + verified.stderr
            await check_again(Traffic(ps), traffic, begun, bus)
            assert_settled(await bus.api("STREAM.INFO.PENSTOCK_EV_JOBS"))
        kill_tree(process.pid)


async def states_at(ps: Penstock, sequence: int) -> list[JobState]:
    """Some jobs as they were at `sequence`."""
    logs = JetStreamEventLog(ps.session.bus, "jobs")
    ids = {r.event.subject: None async for r in logs.read() if r.sequence <= sequence}
    return [await ps.jobs.get(id, at=sequence) for id in list(ids)[-20:]]


async def has_effects(bus: Bus, traffic: Traffic, begun: float) -> None:
    """Every command acknowledged before `begun` is in the log, or is carried out now."""
    known = [sent for sent in traffic.sent if sent.at < begun]
    assert {sent.service for sent in known} == set(SERVICES)
    changes = [id for id, at in traffic.changes if at < begun]
    assert changes
    deadline = time.monotonic() + 10
    while True:
        logs = await events(bus)
        subjects = {(service, r.event.subject) for service in logs for r in logs[service]}
        causes = {r.event.causationid for r in logs["cache"]}
        lost = [sent for sent in known if (sent.service, sent.id) not in subjects]
        lost_changes = [id for id in changes if f"{id}:user" not in causes]
        if not lost and not lost_changes:
            return
        assert time.monotonic() < deadline, (lost, lost_changes)
        await asyncio.sleep(0.1)


def check_jobs(logs: Logs, calls: Counter[str], last: int) -> None:
    """Each job was completed once, and those that were yet to be done were done now."""
    names: defaultdict[str, Counter[str]] = defaultdict(Counter)
    over_then = set()
    for record in logs["jobs"]:
        kind = record.event.type.split(".")[2]
        names[record.event.subject][kind] += 1
        if kind == "completed" and record.sequence <= last:
            over_then.add(record.event.subject)
    assert {kinds["completed"] for kinds in names.values()} == {1}
    assert over_then and set(names) - over_then, "some were over at the backup, and some not"
    assert set(calls) == set(names) - over_then
    assert set(calls.values()) == {1}


async def check_exports(ps: Penstock, logs: Logs) -> None:
    completed = [r.event.subject for r in logs["exports"] if r.event.type.endswith("completed.v1")]
    assert completed
    for id in completed:
        state = await ps.exports.get(id)
        assert state.file
        body = await ps.exports.read(id)  # which checks the digest of what is stored
        assert len(body) == state.file.size
    stored = {
        data.file.sha256
        for r in logs["exports"]
        if isinstance(data := unwrap(r.event), ExportCompleted)
    }
    assert len(stored) == len(completed)


async def check_views(data: Path, logs: Logs) -> None:
    for service, log in logs.items():
        deadline = time.monotonic() + 10
        while viewed(data, service) != folded(service, log):
            assert time.monotonic() < deadline, service
            await asyncio.sleep(0.1)


async def check_again(now: Traffic, before: Traffic, begun: float, bus: Bus) -> None:
    """The same commands again are answered, and nothing comes of it."""
    count = {service: len(log) for service, log in (await events(bus)).items()}
    known = [s for s in before.sent if s.at < begun and s.service != "cache"]
    for sent in known[:20] + known[-20:]:
        await now.again(sent)
    assert {service: len(log) for service, log in (await events(bus)).items()} == count


def assert_settled(info: Any) -> None:
    metadata = info["config"]["metadata"]
    assert "penstock.restored" in metadata
    assert "penstock.unsettled" not in metadata


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small backup."""
    home = tmp_path_factory.mktemp("home")
    with penstock_up(home):
        asyncio.run(some_events(home))
        result = penstock("backup", "copy", directory=home, environ=UP)
        assert result.returncode == 0, result.stderr
    return home / "copy"


async def some_events(home: Path) -> None:
    async with client(home) as ps:
        for number in range(3):
            await ps.progress.create(f"p{number}")


def another(backup: Path, place: Path) -> Path:
    """A copy of `backup` to be damaged."""
    place.mkdir()
    for file in backup.iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    return place


def test_a_changed_file_is_refused_before_anything_is_restored(
    tmp_path: Path, backup: Path
) -> None:
    damaged = another(backup, tmp_path / "copy")
    file = damaged / "PENSTOCK_EV_PROGRESS.snapshot"
    body = bytearray(file.read_bytes())
    body[len(body) // 2] ^= 1
    file.write_bytes(body)
    result = penstock("restore", "copy", directory=tmp_path, environ=UP)
    assert_one_clear_line(result, file.name, "was changed")
    assert not (tmp_path / ".penstock").exists()
    result = penstock("backup", "--check", "copy", directory=tmp_path, environ=UP)
    assert_one_clear_line(result, file.name, "was changed")


def test_a_backup_of_another_system_is_refused_with_what_to_do(
    tmp_path: Path, backup: Path
) -> None:
    environ = {**UP, "PENSTOCK_PREFIX": "other"}
    result = penstock("restore", str(backup), directory=tmp_path, environ=environ)
    assert_one_clear_line(result, "PENSTOCK_PREFIX=penstock")
    result = penstock("restore", "nothing", directory=tmp_path, environ=UP)
    assert_one_clear_line(result, "nothing is no backup")


def test_an_existing_system_is_not_overwritten_and_none_is_not_copied(
    tmp_path: Path, backup: Path
) -> None:
    home = backup.parent
    result = penstock("restore", str(backup), directory=home, environ=UP)
    assert_one_clear_line(result, "has streams already", "PENSTOCK_DATA")
    with DataDirectory(home / ".penstock"):
        result = penstock("restore", str(backup), directory=home, environ=UP)
        assert_one_clear_line(result, "Another Penstock")
    assert_one_clear_line(penstock("backup", "x", directory=tmp_path), "penstock up")


def test_it_is_restored_to_a_server_of_ones_own_once(tmp_path: Path, backup: Path) -> None:
    with shared_nats() as url:
        environ = {"PENSTOCK_NATS_URL": url}
        result = penstock("restore", str(backup), directory=tmp_path, environ=environ)
        assert result.returncode == 0, result.stderr
        assert "@" not in result.stdout, "the password is not shown"
        result = penstock("restore", str(backup), directory=tmp_path, environ=environ)
        assert_one_clear_line(result, "nothing is overwritten")
        with penstock_up(tmp_path, environ):
            asyncio.run(finds_events(tmp_path))


def test_a_backup_that_is_checked_again_is_sound_and_a_restored_system_keeps_its_address(
    tmp_path: Path, backup: Path
) -> None:
    result = penstock("backup", "--check", str(backup), directory=tmp_path, environ=UP)
    assert result.returncode == 0, result.stderr
    assert result.stdout.rstrip().endswith("sound")
    nats = tmp_path / ".penstock" / "nats"
    nats.mkdir(parents=True)
    identity = b'{"user":"penstock","password":"kept","port":null}'
    (nats / "identity.json").write_bytes(identity)
    result = penstock("restore", str(backup), directory=tmp_path, environ=UP)
    assert result.returncode == 0, result.stderr
    assert (nats / "identity.json").read_bytes() == identity
    assert sorted(p.name for p in (tmp_path / ".penstock").iterdir()) == [
        ".gitignore",
        "lock",
        "nats",
    ]


def test_a_killed_backup_and_a_killed_restore_leave_nothing_that_looks_whole(
    tmp_path: Path, backup: Path
) -> None:
    home, copy = backup.parent, tmp_path / "copy"
    with penstock_up(home):
        killed_when(["backup", str(copy)], home, "restoring PENSTOCK_EV_JOBS")
        assert not copy.exists()
        result = penstock("restore", f"{copy}.partial", directory=tmp_path, environ=UP)
        assert_one_clear_line(result, "is no backup")
        result = penstock("backup", str(copy), directory=home, environ=UP)
        assert result.returncode == 0, result.stderr
        assert not copy.with_name("copy.partial").exists()
    killed_when(["restore", str(copy)], tmp_path, "restoring PENSTOCK_EV_PROGRESS")
    assert not (tmp_path / ".penstock" / "nats").exists()
    result = penstock("restore", str(copy), directory=tmp_path, environ=UP)
    assert result.returncode == 0, result.stderr
    with penstock_up(tmp_path):
        asyncio.run(finds_events(tmp_path))


async def finds_events(home: Path) -> None:
    async with client(home) as ps:
        assert [(await ps.progress.get(f"p{number}")).id for number in range(3)]


def killed_when(arguments: list[str], directory: Path, line: str) -> None:
    """Run a command and SIGKILL it once it has printed `line`."""
    with subprocess.Popen(
        [*PENSTOCK, *arguments],
        cwd=directory,
        env={**CLEAN, **UP},
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stderr
        for said in process.stderr:
            if said.startswith(line):
                break
        process.send_signal(signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
