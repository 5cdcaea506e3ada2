"""A nats-server of our own, seen by those who use it: who may connect, and what it refuses."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from penstock.contracts.errors import StartupError
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.nats_server.leftover import command_line


def port_of(server: EmbeddedNats) -> int:
    port = urlsplit(server.url).port
    assert port is not None
    return port


def fake_server(path: Path, script: str) -> Path:
    path.write_text(
        f'#!/bin/sh\n[ "$1" = --version ] && exec echo nats-server: v2.15.0\n{script}\n'
    )
    path.chmod(0o755)
    return path


async def store(url: str, stream: str, body: bytes) -> None:
    client = await nats.connect(url)
    try:
        await client.jetstream().add_stream(name=stream, subjects=[stream])
        await client.jetstream().publish(stream, body)
    finally:
        await client.close()


async def stored(url: str, stream: str) -> bytes | None:
    client = await nats.connect(url)
    try:
        return (await client.jetstream().get_msg(stream, 1)).data
    finally:
        await client.close()


async def test_it_is_ready_for_jetstream_when_it_has_started(fresh_nats: EmbeddedNats) -> None:
    await store(fresh_nats.url, "s", b"body")
    assert await stored(fresh_nats.url, "s") == b"body"


async def test_it_tells_its_process_version_and_log(fresh_nats: EmbeddedNats) -> None:
    assert "nats-server" in command_line(fresh_nats.pid)
    assert fresh_nats.version in fresh_nats.log_path.read_text()
    assert f"[{fresh_nats.pid}]" in fresh_nats.log_path.read_text()


async def test_before_its_start_it_has_no_address(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    with pytest.raises(RuntimeError, match="not started"):
        _ = server.url
    with pytest.raises(RuntimeError, match="not started"):
        await server.wait_failed()
    await server.stop()


@pytest.mark.parametrize("credentials", ["", "penstock:wrong@"])
async def test_nobody_connects_without_the_credentials(
    fresh_nats: EmbeddedNats, credentials: str
) -> None:
    async def ignore(error: Exception) -> None:
        """The client reports by callback what it raises too."""

    client = Client()
    with pytest.raises(nats.errors.Error, match=r"(?i)authorization violation"):
        await client.connect(
            f"nats://{credentials}127.0.0.1:{port_of(fresh_nats)}",
            allow_reconnect=False,
            error_cb=ignore,
        )
    await client.close()


async def test_it_listens_on_one_loopback_address_only(fresh_nats: EmbeddedNats) -> None:
    port = port_of(fresh_nats)
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    # Another address of this machine, which a server on all addresses would answer.
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", port), timeout=5)
    with pytest.raises(OSError):
        socket.create_connection(("::1", port), timeout=5)


async def test_a_message_of_eight_mebibytes_passes_and_a_longer_one_does_not(
    fresh_nats: EmbeddedNats,
) -> None:
    await store(fresh_nats.url, "big", bytes(8 * 1024 * 1024))
    with pytest.raises(nats.errors.MaxPayloadError):
        await store(fresh_nats.url, "bigger", bytes(8 * 1024 * 1024 + 1))


async def test_a_restart_keeps_messages_credentials_and_port(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path) as server:
        first_url, first_pid = server.url, server.pid
        await store(server.url, "s", b"kept")
    assert command_line(first_pid) == ""
    async with EmbeddedNats(tmp_path) as server:
        assert server.url == first_url
        assert await stored(server.url, "s") == b"kept"


async def test_a_remembered_port_that_is_taken_gives_way_to_another(tmp_path: Path) -> None:
    async with EmbeddedNats(tmp_path) as server:
        port = port_of(server)
    with socket.create_server(("127.0.0.1", port)):
        async with EmbeddedNats(tmp_path) as server:
            assert port_of(server) != port


async def test_a_fixed_port_that_is_taken_is_named_with_its_setting(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(StartupError, match=f"port {port} .*PENSTOCK_NATS_PORT"):
            await EmbeddedNats(tmp_path, port=port).start()
    async with EmbeddedNats(tmp_path, port=port) as server:
        assert port_of(server) == port


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    # Even root cannot make a directory below a regular file.
    (tmp_path / "file").touch()
    with pytest.raises(StartupError, match=r"file/nats cannot be used .Not a directory"):
        await EmbeddedNats(tmp_path / "file" / "nats").start()


async def test_too_old_a_server_is_not_started(tmp_path: Path) -> None:
    old = tmp_path / "old-nats"
    old.write_text("#!/bin/sh\necho nats-server: v2.10.0\n")
    old.chmod(0o755)
    with pytest.raises(StartupError, match=r"nats-server 2\.10\.0, but 2\.14 or later"):
        await EmbeddedNats(tmp_path, binary=old).start()


async def test_a_server_that_cannot_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "jetstream").touch()
    with pytest.raises(
        StartupError, match=r"ended while it started: \[FTL\] Can't start JetStream.*nats\.log"
    ):
        await EmbeddedNats(tmp_path).start()


async def test_a_failed_start_leaves_the_directory_free(tmp_path: Path) -> None:
    failing = fake_server(tmp_path / "failing", "echo 'panic: no luck'; echo goroutine 1; exit 2")
    with pytest.raises(StartupError, match="ended while it started: panic: no luck"):
        await EmbeddedNats(tmp_path, binary=failing).start()
    async with EmbeddedNats(tmp_path) as server:
        await store(server.url, "s", b"body")


async def test_a_slow_start_is_told_while_it_lasts_and_given_up_at_the_deadline(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow = fake_server(tmp_path / "slow", "echo recovering; echo $$ > $2.fake; exec sleep 60")
    with (
        caplog.at_level(logging.WARNING, logger="penstock"),
        pytest.raises(StartupError, match=r"not ready within 0\.6 s; it last said: recovering"),
    ):
        await EmbeddedNats(tmp_path, binary=slow, start_timeout=0.6).start()
    assert "still starting; it last said: recovering" in caplog.text
    assert command_line(int((tmp_path / "nats.conf.fake").read_text())) == ""


async def test_a_server_that_ignores_sigterm_is_killed_after_the_grace(tmp_path: Path) -> None:
    deaf = fake_server(
        tmp_path / "deaf", "trap '' TERM; echo $$ > $2.fake; while true; do sleep 0.05; done"
    )
    with pytest.raises(StartupError, match="not ready"):
        await EmbeddedNats(tmp_path, binary=deaf, start_timeout=0.3, grace=0.3).start()
    assert command_line(int((tmp_path / "nats.conf.fake").read_text())) == ""


async def test_two_servers_on_one_directory_are_refused_and_the_first_stays(
    fresh_nats: EmbeddedNats,
) -> None:
    second = EmbeddedNats(fresh_nats.log_path.parent)
    with pytest.raises(StartupError, match="Another process runs a nats-server"):
        await second.start()
    await second.stop()
    await store(fresh_nats.url, "s", b"body")


async def test_a_cancelled_start_leaves_no_server(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    starting = asyncio.create_task(server.start())
    while not (tmp_path / "nats.pid").exists():
        await asyncio.sleep(0.001)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    async with EmbeddedNats(tmp_path) as other:
        assert "left over" not in other.log_path.read_text()


async def test_stopping_twice_is_stopping_once_even_if_others_came(tmp_path: Path) -> None:
    first = EmbeddedNats(tmp_path)
    await first.start()
    await first.stop()
    async with EmbeddedNats(tmp_path) as second:
        pid = second.pid
        await first.stop()
        assert command_line(pid)


async def test_a_signal_from_the_terminal_does_not_reach_it(fresh_nats: EmbeddedNats) -> None:
    assert os.getsid(fresh_nats.pid) != os.getsid(0)
