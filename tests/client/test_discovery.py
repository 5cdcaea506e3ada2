"""Where an application connects: what it is told, what the environment says, what runs nearby."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from penstock.client.discovery import (
    RunningSystem,
    Target,
    connection_target,
    find_system,
    without_password,
)
from penstock.contracts.errors import Unavailable

SYSTEM = RunningSystem(
    pid=4711,
    started=datetime(2025, 11, 23, 9, 30, tzinfo=UTC),
    nats_url="nats://penstock:secret@127.0.0.1:4222",
    http_url="http://127.0.0.1:8080",
    version="0.1.0",
)


@contextmanager
def system_running_in(parent: Path, system: RunningSystem = SYSTEM) -> Iterator[Path]:
    directory = parent / ".penstock"
    directory.mkdir(exist_ok=True)
    lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (directory / "system.json").write_bytes(msgspec.json.encode(system))
        yield directory
    finally:
        os.close(lock)


def test_a_system_is_found_from_below_its_directory(tmp_path: Path) -> None:
    below = tmp_path / "src" / "app"
    below.mkdir(parents=True)
    with system_running_in(tmp_path):
        assert find_system(below) == find_system(tmp_path) == SYSTEM


def test_the_working_directory_is_where_the_search_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with system_running_in(tmp_path):
        assert find_system() == SYSTEM


def test_the_nearest_running_system_wins_over_those_above_and_those_that_died(
    tmp_path: Path,
) -> None:
    near, dead = tmp_path / "near", tmp_path / "near" / "dead"
    dead.mkdir(parents=True)
    nearest = msgspec.structs.replace(SYSTEM, pid=1)
    with system_running_in(dead, msgspec.structs.replace(SYSTEM, pid=2)):
        pass
    with system_running_in(tmp_path), system_running_in(near, nearest):
        assert find_system(dead) == nearest


def test_a_system_that_died_is_not_found(tmp_path: Path) -> None:
    with system_running_in(tmp_path) as directory:
        pass
    assert (directory / "system.json").exists()
    assert find_system(tmp_path) is None


def test_a_system_that_has_not_announced_itself_yet_is_not_found(tmp_path: Path) -> None:
    with system_running_in(tmp_path) as directory:
        (directory / "system.json").unlink()
        assert find_system(tmp_path) is None


def test_a_regular_file_of_that_name_is_no_system(tmp_path: Path) -> None:
    (tmp_path / ".penstock").touch()
    assert find_system(tmp_path) is None


def test_fields_of_a_later_version_are_ignored(tmp_path: Path) -> None:
    with system_running_in(tmp_path) as directory:
        later = msgspec.to_builtins(SYSTEM) | {"console_url": "http://127.0.0.1:8081"}
        (directory / "system.json").write_bytes(msgspec.json.encode(later))
        assert find_system(tmp_path) == SYSTEM


def test_an_announcement_in_an_unknown_form_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    with system_running_in(tmp_path) as directory:
        (directory / "system.json").write_text('{"pid": 1}')
        with pytest.raises(Unavailable, match="another version of Penstock"):
            find_system(tmp_path)


def test_an_announcement_that_cannot_be_read_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    with system_running_in(tmp_path) as directory:
        (directory / "system.json").unlink()
        (directory / "system.json").mkdir()
        with pytest.raises(Unavailable, match=r"system\.json cannot be read"):
            find_system(tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_system_of_another_user_does_not_get_our_messages(tmp_path: Path) -> None:
    with system_running_in(tmp_path) as directory:
        os.chown(directory, 65534, -1)
        with pytest.raises(Unavailable, match="belongs to another user"):
            find_system(tmp_path)


def test_an_explicit_url_wins_and_takes_nothing_from_the_environment(tmp_path: Path) -> None:
    environ = {
        "PENSTOCK_NATS_URL": "nats://elsewhere:4222",
        "PENSTOCK_NATS_CREDS": "/elsewhere.creds",
        "PENSTOCK_HTTP_URL": "http://elsewhere",
    }
    with system_running_in(tmp_path):
        target = connection_target("nats://here:4222", environ, tmp_path)
    assert target == Target(nats_url="nats://here:4222")


def test_the_environment_wins_over_a_system_nearby(tmp_path: Path) -> None:
    creds = tmp_path / "app.creds"
    creds.touch()
    environ = {
        "PENSTOCK_NATS_URL": "nats://there:4222",
        "PENSTOCK_NATS_CREDS": str(creds),
        "PENSTOCK_HTTP_URL": "http://there",
    }
    with system_running_in(tmp_path):
        target = connection_target(None, environ, tmp_path)
    assert target == Target(nats_url="nats://there:4222", creds_path=creds, http_url="http://there")


def test_credentials_and_http_address_may_be_left_out(tmp_path: Path) -> None:
    target = connection_target(None, {"PENSTOCK_NATS_URL": "nats://there:4222"}, tmp_path)
    assert target == Target(nats_url="nats://there:4222")


def test_credentials_that_are_not_there_are_named(tmp_path: Path) -> None:
    environ = {
        "PENSTOCK_NATS_URL": "nats://there:4222",
        "PENSTOCK_NATS_CREDS": str(tmp_path / "missing.creds"),
    }
    with pytest.raises(Unavailable, match=r"PENSTOCK_NATS_CREDS names .*missing\.creds"):
        connection_target(None, environ, tmp_path)


def test_without_url_and_environment_the_system_nearby_is_the_target(tmp_path: Path) -> None:
    with system_running_in(tmp_path):
        target = connection_target(None, {"PENSTOCK_NATS_URL": ""}, tmp_path)
    assert target == Target(nats_url=SYSTEM.nats_url, http_url=SYSTEM.http_url)


def test_with_nothing_to_connect_to_one_is_told_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(Unavailable) as nothing:
        connection_target(None, {}, tmp_path)
    assert nothing.value.detail == (
        f"No Penstock system runs in {tmp_path} or above it: "
        "start one with `penstock up`, or set PENSTOCK_NATS_URL to the address of another."
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("nats://user:secret@127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://token@127.0.0.1:4222", "nats://127.0.0.1:4222"),
        ("nats://127.0.0.1:4222", "nats://127.0.0.1:4222"),
    ],
)
def test_an_address_is_shown_without_its_password(url: str, shown: str) -> None:
    assert without_password(url) == shown
