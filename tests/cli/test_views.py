"""`penstock rebuild` and `penstock verify`, on a running system and without one."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from penstock.client import Penstock
from penstock.client.discovery import find_system
from support.command_line import CLEAN, PENSTOCK, assert_one_clear_line, penstock, penstock_up
from support.filling import fill

EVENTS = 2_000


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Path]:
    """The directory of a running system with some events of progress."""

    async def filled() -> None:
        found = find_system(tmp_path)
        assert found
        async with Penstock(found.nats_url) as ps:
            await fill(ps.session.bus, EVENTS)
            await ps.progress.create("one-more")

    with penstock_up(tmp_path):
        asyncio.run(filled())
        yield tmp_path


def test_a_view_is_verified_spoiled_found_out_and_rebuilt(system: Path) -> None:
    right = penstock("verify", "progress", directory=system)
    assert right.returncode == 0, right.stderr
    [line] = right.stdout.splitlines()
    assert "is as its events say: 1,001 aggregates at 2001, 2,001 events in" in line

    [view] = (system / ".penstock" / "views").glob("progress.*.sqlite")
    db = apsw.Connection(str(view))
    db.set_busy_timeout(5000)
    db.execute("DELETE FROM aggregate WHERE id = 'p7'")
    db.close()
    wrong = penstock("verify", "progress", directory=system)
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr
    said = wrong.stdout.splitlines()
    assert "differs from its events in 1 rows" in said[0]
    assert said[1].split() == ["aggregate", "p7"]
    assert said[2].split(maxsplit=3)[3] == "no such row"
    assert '"id":"p7"' in said[3]

    rebuilt = penstock("rebuild", "progress", directory=system)
    assert rebuilt.returncode == 0, rebuilt.stderr
    assert "is rebuilt: 2,001 events in" in rebuilt.stdout
    assert "2,001 of 2,001 events" in rebuilt.stderr
    assert penstock("verify", "progress", directory=system).returncode == 0


def test_on_a_terminal_there_is_a_bar(system: Path) -> None:
    terminal, side = pty.openpty()
    environ = {**CLEAN, "TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen(
        [*PENSTOCK, "rebuild", "progress"],
        cwd=system,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=side,
    ) as process:
        os.close(side)
        assert process.stdout
        assert b"is rebuilt" in process.stdout.read()
        shown = b""
        while block := _read(terminal):
            shown += block
    os.close(terminal)
    assert "━━".encode() in shown and b"2001/2001" in shown


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how Linux says that the other side is closed
        return b""


def test_bad_calls_are_one_clear_line(tmp_path: Path) -> None:
    assert_one_clear_line(penstock("rebuild", "jbos", directory=tmp_path), "'jbos'", "jobs")
    assert_one_clear_line(penstock("verify", "jobs", directory=tmp_path), "penstock up")
