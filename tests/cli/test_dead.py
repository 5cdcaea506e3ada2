"""`penstock dead` against a running system: list, show, redrive, discard.

The command runs in the test's own process, in a thread: starting Python takes longer than all else.
"""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.cli.main import main
from penstock.client import Penstock
from penstock.client.discovery import find_system
from penstock.contracts.envelope import encode
from penstock.contracts.progress import CompleteProgress
from support.command_line import assert_one_clear_line, penstock_up
from support.events import event


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where a system runs."""
    here = tmp_path_factory.mktemp("dead")
    with penstock_up(here):
        yield here


@pytest.fixture
async def ps(directory: Path) -> AsyncIterator[Penstock]:
    """A client of it. No letter is left from the test before."""
    system = find_system(directory)
    assert system
    async with Penstock(system.nats_url) as client:
        bus = client.session.bus
        await bus.api(f"STREAM.PURGE.{bus.subjects.stream('dead')}")
        yield client


@pytest.fixture(autouse=True)
def here(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    for name in [name for name in os.environ if name.startswith("PENSTOCK_")]:
        monkeypatch.delenv(name)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `penstock dead` with these arguments."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["dead", *arguments])
    return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())


async def dead(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(run, *arguments)


async def listed(count: int, *arguments: str) -> list[dict[str, Any]]:
    """The letters, once there are so many."""
    async with asyncio.timeout(60):
        while True:
            result = await dead("list", "--json", *arguments)
            found = [msgspec.json.decode(line) for line in result.stdout.splitlines()]
            if len(found) == count:
                return found
            await asyncio.sleep(0.05)


async def test_a_mistaken_command_is_listed_shown_and_redriven_with_its_effect_once(
    ps: Penstock,
) -> None:
    await ps.session.post(CompleteProgress(message="done"), id="early")
    [letter] = await listed(1)
    number = str(letter["number"])
    assert (letter["service"], letter["kind"], letter["id"]) == ("progress", "command", "early")
    table = (await dead("list", "--service", "progress")).stdout
    for part in ("number", number, "command", "early"):
        assert part in table
    shown = (await dead("show", number)).stdout
    for part in ("penstock.progress.complete.v1", "urn:penstock:error:not-found", '"done"'):
        assert part in shown
    await ps.progress.create("early")
    result = await dead("redrive", number)
    assert (result.returncode, result.stdout) == (0, "1 redriven, 0 left.\n")
    async with asyncio.timeout(60):
        while (await ps.progress.get("early")).state != "completed":
            await asyncio.sleep(0.02)
    assert len(await ps.session.history("progress", "early")) == 2
    result = await dead("redrive", number)
    assert result.returncode == 1
    assert f"penstock: {number} stays: There is no dead letter {number}" in result.stderr
    assert "There is no such dead letter." in (await dead("list")).stdout


async def test_what_cannot_be_redriven_says_why_and_can_be_discarded(
    ps: Penstock,
) -> None:
    bus = ps.session.bus
    await bus.publish_acked(bus.subjects.command("progress", "create"), b"not json")
    await ps.session.post(CompleteProgress(), id="nobody")
    [nobody, unreadable] = await listed(2)
    if nobody["reason"]["title"] != "Not found":
        nobody, unreadable = unreadable, nobody
    result = await dead("redrive", "--reason", "invalid-message")
    assert (result.returncode, result.stdout) == (1, "0 redriven, 1 left.\n")
    assert f"penstock: {unreadable['number']} stays: The message is not valid" in result.stderr
    assert_one_clear_line(await dead("discard", "--all"), "--yes")
    result = await dead("discard", "--reason", "invalid-message", "--yes", "--json")
    assert msgspec.json.decode(result.stdout) == {"number": unreadable["number"]}
    assert [one["number"] for one in await listed(1)] == [nobody["number"]]
    result = await dead("discard", "--all", "--yes")
    assert (result.returncode, result.stdout) == (0, "1 discarded, 0 left.\n")


async def test_an_event_that_cannot_be_folded_stays_held_and_says_so(
    ps: Penstock,
) -> None:
    await ps.progress.create("held")
    bus = ps.session.bus
    broken = msgspec.structs.replace(event("held", 2), type="penstock.progress.updated.v99")
    await bus.publish_acked(bus.subjects.event("progress", "held"), encode(broken))
    [letter] = await listed(1, "--kind", "event", "--aggregate", "held")
    result = await dead("redrive", "--service", "progress")
    assert result.returncode == 1
    assert f"cannot fold event {letter['sequence']}" in result.stderr
    assert "penstock.progress.updated.v99" in result.stderr


def test_which_letters_has_to_be_said() -> None:
    for arguments in (("redrive",), ("redrive", "1", "--all"), ("discard", "--all", "--kind=work")):
        result = run(*arguments)
        assert_one_clear_line(result, "Say which letters", "--service", "--all")


def test_a_letter_that_is_not_there_and_a_system_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run("show", "999999")
    assert_one_clear_line(result, "There is no dead letter 999999", "penstock dead list")
    monkeypatch.chdir(tmp_path)
    result = run("list")
    assert_one_clear_line(result, "penstock up")
