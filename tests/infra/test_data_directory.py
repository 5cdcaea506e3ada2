"""The data directory of a running system: its lock, what it tells, and who is told what."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.client.discovery import RunningSystem, find_system, is_held, read_system
from penstock.contracts.errors import StartupError
from penstock.infra.data_directory import DataDirectory, write_private

SYSTEM = RunningSystem(
    pid=4711,
    started=datetime(2025, 11, 23, 9, 30, tzinfo=UTC),
    nats_url="nats://penstock:secret@127.0.0.1:4222",
    http_url="http://127.0.0.1:8080",
    version="0.1.0",
)

HOLDER = """
import sys
from pathlib import Path
from penstock.infra.data_directory import DataDirectory
with DataDirectory(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def another_process_holding(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_missing_directory_is_created_for_its_owner_only(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / "deep" / ".penstock") as data:
        assert data.path == tmp_path / "deep" / ".penstock"
        assert mode(data.path) == 0o700


def test_the_directory_keeps_itself_out_of_version_control(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / ".penstock") as data:
        assert (data.path / ".gitignore").read_text() == "*\n"


def test_an_announced_system_is_found_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with DataDirectory(tmp_path / ".penstock") as data:
        assert find_system(tmp_path) is None
        data.announce(SYSTEM)
        assert find_system(tmp_path) == SYSTEM
        assert mode(data.path / "system.json") == 0o600


def test_leaving_removes_the_announcement_and_frees_the_directory(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as data:
        data.announce(SYSTEM)
    assert read_system(tmp_path) is None
    assert not is_held(tmp_path / "lock")
    with DataDirectory(tmp_path):
        assert is_held(tmp_path / "lock")


def test_a_second_system_is_told_what_already_runs_without_the_password(tmp_path: Path) -> None:
    with DataDirectory(tmp_path) as data:
        data.announce(SYSTEM)
        with pytest.raises(StartupError) as refused, DataDirectory(tmp_path):
            pass
        assert read_system(tmp_path) == SYSTEM
    assert refused.value.detail == (
        f"Penstock already runs on {tmp_path}: process 4711 since 2025-11-23 09:30:00 UTC, "
        "NATS at nats://127.0.0.1:4222, HTTP at http://127.0.0.1:8080; "
        "stop it, or set PENSTOCK_DATA to another directory."
    )


def test_a_second_system_is_refused_while_another_process_just_starts(tmp_path: Path) -> None:
    with (
        another_process_holding(tmp_path),
        pytest.raises(StartupError, match="just starting or stopping"),
        DataDirectory(tmp_path),
    ):
        pass


def test_a_killed_holder_frees_the_directory_and_its_announcement_is_forgotten(
    tmp_path: Path,
) -> None:
    with another_process_holding(tmp_path) as process:
        write_private(tmp_path / "system.json", b"{}")
        process.send_signal(signal.SIGKILL)
        process.wait()
    with DataDirectory(tmp_path):
        assert read_system(tmp_path) is None


def test_looking_whether_a_system_runs_does_not_keep_one_from_starting(tmp_path: Path) -> None:
    looking = os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(looking, fcntl.LOCK_SH)
    looked = threading.Timer(0.1, os.close, [looking])
    looked.start()
    with DataDirectory(tmp_path):
        assert is_held(tmp_path / "lock")
    looked.join()


@pytest.mark.parametrize("below", ["", "data", "deep/data"])
def test_a_directory_that_cannot_be_made_is_refused_in_one_sentence(
    tmp_path: Path, below: str
) -> None:
    # Even root cannot make a directory of a regular file, or below one.
    file = tmp_path / "file"
    file.touch()
    with (
        pytest.raises(StartupError, match=f"The data directory {file}.* cannot be used"),
        DataDirectory(file / below),
    ):
        pass


def test_replacing_a_private_file_tightens_what_was_open_to_all(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    for name in ("secret", "secret.new"):
        (tmp_path / name).write_text("old")
        (tmp_path / name).chmod(0o644)
    write_private(path, b"new")
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o600
    assert list(tmp_path.iterdir()) == [path]
