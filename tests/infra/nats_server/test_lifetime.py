"""Who outlives whom: our nats-server, its guard and the process that owns both, killed at will."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import nats
import pytest

from penstock.contracts.errors import Unavailable
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.nats_server.binary import find_binary
from penstock.infra.nats_server.leftover import _from_ps, command_line

PATIENCE = 10.0

OWNER = """
import asyncio, os, sys, time
from pathlib import Path
from penstock.infra.nats_server import EmbeddedNats

async def own():
    server = EmbeddedNats(Path(sys.argv[1]), durability="os")
    await server.start()
    if sys.argv[2] == "with a fork" and os.fork() == 0:
        os.close(1)
        time.sleep(60)
    print(server.pid, server.url, flush=True)
    if sys.argv[2] != "and leave":
        await asyncio.Event().wait()

asyncio.run(own())
"""


class Owner(NamedTuple):
    process: subprocess.Popen[str]
    server_pid: int
    url: str

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def owner_of(directory: Path, how: str = "until killed") -> Iterator[Owner]:
    """Another process that runs EmbeddedNats on `directory`."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(directory), how],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            pid, url = process.stdout.readline().split()
            with ended_at_last(int(pid)):
                yield Owner(process, int(pid), url)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def ended_at_last(server_pid: int) -> Iterator[None]:
    """A failing test must not leave the server that it has deprived of its guard."""
    command = command_line(server_pid)
    try:
        yield
    finally:
        if command and command_line(server_pid) == command:
            os.kill(server_pid, signal.SIGKILL)


def guard_of(server_pid: int) -> int:
    guard = int(told_by_ps(server_pid, "ppid"))
    assert "guard.py" in command_line(guard)
    return guard


def told_by_ps(pid: int, column: str) -> str:
    asked = subprocess.run(
        ["ps", "-o", f"{column}=", "-p", str(pid)], capture_output=True, check=True, timeout=10
    )
    return asked.stdout.decode().strip()


async def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


async def gone(pid: int) -> None:
    await until(lambda: command_line(pid) == "")


def calling(function: Callable[[], None]) -> Callable[[], Awaitable[None]]:
    async def call() -> None:
        function()

    return call


async def store(url: str, body: bytes) -> None:
    client = await nats.connect(url)
    try:
        await client.jetstream().add_stream(name="s", subjects=["s"])
        await client.jetstream().publish("s", body)
    finally:
        await client.close()


async def stored(url: str) -> bytes | None:
    client = await nats.connect(url)
    try:
        return (await client.jetstream().get_msg("s", 1)).data
    finally:
        await client.close()


@pytest.mark.parametrize("how", ["until killed", "with a fork"])
async def test_the_server_ends_with_a_killed_owner_and_its_data_open_again(
    tmp_path: Path, how: str
) -> None:
    with owner_of(tmp_path, how) as owner:
        await store(owner.url, b"kept")
        guard = guard_of(owner.server_pid)
        owner.kill()
        await gone(owner.server_pid)
        await gone(guard)
    async with EmbeddedNats(tmp_path) as server:
        assert server.url == owner.url
        assert await stored(server.url) == b"kept"


async def test_the_server_ends_with_an_owner_that_left_without_stopping_it(tmp_path: Path) -> None:
    with owner_of(tmp_path, "and leave") as owner:
        await gone(owner.server_pid)


async def test_an_orphan_is_stopped_by_the_next_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with owner_of(tmp_path) as owner:
        await store(owner.url, b"kept")
        # Stopped first, so that it cannot see its guard die and start another.
        os.kill(owner.process.pid, signal.SIGSTOP)
        os.kill(guard_of(owner.server_pid), signal.SIGKILL)
        owner.kill()
        assert command_line(owner.server_pid)
        async with EmbeddedNats(tmp_path) as server:
            assert command_line(owner.server_pid) == ""
            assert await stored(server.url) == b"kept"
            assert server.url == owner.url
    assert f"stopping nats-server {owner.server_pid}, left over" in caplog.text


async def test_a_process_that_got_the_id_of_our_dead_server_is_let_alone(tmp_path: Path) -> None:
    stranger = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "input()", stdin=asyncio.subprocess.PIPE
    )
    (tmp_path / "nats.pid").write_text(str(stranger.pid))
    async with EmbeddedNats(tmp_path):
        assert stranger.returncode is None
    # It would have been told to end before the server started, and would have ended by now.
    await stranger.communicate(b"end\n")
    assert stranger.returncode == 0


@pytest.mark.parametrize("victim", ["server", "guard"])
async def test_a_killed_server_is_restarted_and_clients_find_all_they_stored(
    tmp_path: Path, victim: str
) -> None:
    async with EmbeddedNats(tmp_path) as server:
        pid, url = server.pid, server.url
        reconnected = asyncio.Event()
        client = await nats.connect(
            url, reconnect_time_wait=0.05, reconnected_cb=calling(reconnected.set)
        )
        jetstream = client.jetstream()
        await jetstream.add_stream(name="s", subjects=["s"])
        await jetstream.publish("s", b"acknowledged")
        os.kill(pid if victim == "server" else guard_of(pid), signal.SIGKILL)
        async with asyncio.timeout(PATIENCE):
            await reconnected.wait()
        assert (await jetstream.get_msg("s", 1)).data == b"acknowledged"
        await client.close()
        await until(lambda: server.pid != pid)
        assert command_line(pid) == ""
        assert server.url == url
    assert command_line(server.pid) == ""


async def test_a_server_that_keeps_dying_is_given_up_with_its_last_words(tmp_path: Path) -> None:
    binary = tmp_path / "nats"
    binary.symlink_to(find_binary())
    async with EmbeddedNats(tmp_path / "data", binary=binary) as server:
        binary.unlink()
        binary.write_text(
            "#!/bin/sh\n"
            '[ "$1" = --version ] && exec echo nats-server: v2.15.0\n'
            "echo 'nats-server: the disk is on fire'\n"
        )
        binary.chmod(0o755)
        os.kill(server.pid, signal.SIGKILL)
        with pytest.raises(Unavailable, match=r"ended 6 times within 60 s .* the disk is on fire"):
            await asyncio.wait_for(server.wait_failed(), 30)


async def test_waiting_for_a_failure_ends_when_the_server_is_stopped(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    await server.start()
    waiting = asyncio.create_task(server.wait_failed())
    await asyncio.sleep(0)
    await server.stop()
    await asyncio.wait_for(waiting, PATIENCE)


async def test_to_give_up_waiting_for_a_failure_does_not_end_the_supervision(
    tmp_path: Path,
) -> None:
    async with EmbeddedNats(tmp_path) as server:
        pid = server.pid
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(server.wait_failed(), 0.01)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: server.pid != pid)


async def test_stopping_a_server_whose_guard_hangs_still_ends_it(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path, grace=0.1)
    await server.start()
    guard = guard_of(server.pid)
    with ended_at_last(server.pid):
        os.kill(guard, signal.SIGSTOP)
        # One of its threads may run on for a moment.
        await until(lambda: told_by_ps(guard, "stat").startswith("T"))
        await server.stop()
        assert command_line(server.pid) == ""
        assert command_line(guard) == ""


def test_a_process_is_told_alike_by_proc_and_by_ps() -> None:
    assert _from_ps(os.getpid()) == command_line(os.getpid())
    assert _from_ps(2**22) == command_line(2**22) == ""
