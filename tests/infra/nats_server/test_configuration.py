"""How our nats-server is configured, and what it keeps for its next start."""

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.contracts.errors import StartupError
from penstock.infra.nats_server.configuration import (
    ANY_PORT,
    Durability,
    Files,
    choose_port,
    load_identity,
    write_configuration,
)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def written(files: Files, durability: Durability = "os") -> dict[str, Any]:
    write_configuration(files, load_identity(files), port=4222, durability=durability)
    settings: dict[str, Any] = msgspec.json.decode(files.configuration.read_bytes())
    return settings


def test_the_identity_is_made_once(files: Files) -> None:
    first = load_identity(files)
    assert len(first.password) >= 32
    assert load_identity(files) == first


def test_two_directories_have_different_passwords(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    assert load_identity(Files(one)).password != load_identity(Files(other)).password


def test_only_the_owner_may_read_what_has_the_password_in_it(files: Files) -> None:
    written(files)
    for path in (files.identity, files.configuration):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_damaged_identity_is_not_replaced_in_silence(files: Files) -> None:
    files.identity.write_text("{}")
    with pytest.raises(StartupError, match=r"identity\.json is damaged.*remove it"):
        load_identity(files)
    assert files.identity.read_text() == "{}"


def test_only_fsync_writes_every_message_to_the_disk_at_once(files: Files) -> None:
    assert written(files, "fsync")["jetstream"]["sync_interval"] == "always"
    assert "sync_interval" not in written(files, "os")["jetstream"]


def test_the_room_for_streams_does_not_shrink_by_what_they_already_hold(files: Files) -> None:
    empty = written(files)["jetstream"]["max_file_store"]
    files.store.mkdir()
    held = 10**12
    with (files.store / "1.blk").open("wb") as block:
        block.truncate(held)  # a hole: it takes no room
    # What others write to the disk meanwhile moves it, but never by so much.
    assert written(files)["jetstream"]["max_file_store"] > empty + held // 2


def test_a_remembered_port_is_taken_again_if_it_is_free() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert choose_port(0, remembered=port) == ANY_PORT
    assert choose_port(0, remembered=port) == port
    assert choose_port(0, remembered=None) == ANY_PORT


def test_a_fixed_port_wins_over_the_remembered_one(unused_port: int) -> None:
    assert choose_port(unused_port, remembered=4222) == unused_port


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


@pytest.mark.parametrize("port", [70_000, -5])
def test_a_port_that_cannot_exist_is_refused(port: int) -> None:
    with pytest.raises(StartupError, match=f"port {port} .*PENSTOCK_NATS_PORT"):
        choose_port(port, remembered=None)
