"""The command line's answers to good and bad input, each run as a process of its own."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from penstock.infra.settings import Settings, descriptions, read_settings
from support.command_line import assert_one_clear_line, penstock


def test_config_shows_every_setting_and_hides_secrets(tmp_path: Path) -> None:
    environ = {"PENSTOCK_SECRET": "hush", "PENSTOCK_HTTP_PORT": "1234"}
    result = penstock("config", "--json", directory=tmp_path, environ=environ)
    shown = msgspec.json.decode(result.stdout, type=dict[str, object])
    assert shown["PENSTOCK_HTTP_PORT"] == 1234
    assert shown["PENSTOCK_SECRET"] == "(set)"
    assert set(shown) == set(descriptions())
    told = penstock("config", directory=tmp_path).stdout
    assert [name for name in shown if name not in told] == []


def test_every_setting_is_read_from_its_variable() -> None:
    values = {"PENSTOCK_DURABILITY": "os", "PENSTOCK_REPLICAS": "3", "PENSTOCK_DATA": "/x"}
    settings = read_settings(values)
    assert (settings.durability, settings.replicas, settings.data) == ("os", 3, "/x")
    assert read_settings({}) == Settings()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PENSTOCK_HTTP_PORT", "abc"),
        ("PENSTOCK_HTTP_PORT", "70000"),
        ("PENSTOCK_DURABILITY", "maybe"),
        ("PENSTOCK_PREFIX", "Not.Usable"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(tmp_path: Path, variable: str, value: str) -> None:
    result = penstock("config", directory=tmp_path, environ={variable: value})
    assert_one_clear_line(result, variable, value)


def test_serving_needs_a_server_and_known_services(tmp_path: Path) -> None:
    assert_one_clear_line(penstock("serve", "jobs", directory=tmp_path), "PENSTOCK_NATS_URL")
    nowhere = {"PENSTOCK_NATS_URL": "nats://127.0.0.1:1"}
    result = penstock("serve", "jobs", "jbos", directory=tmp_path, environ=nowhere)
    assert_one_clear_line(result, "'jbos'", "progress, notifications, jobs")
    result = penstock("serve", "progress", directory=tmp_path, environ=nowhere)
    assert_one_clear_line(result, "nats://127.0.0.1:1", "penstock up")


def test_a_command_that_is_none_is_told_with_the_usage(tmp_path: Path) -> None:
    result = penstock("pu", directory=tmp_path)
    assert (result.returncode, "usage: penstock" in result.stderr) == (2, True)


def test_doctor_finds_a_machine_well_and_says_how_to_start(tmp_path: Path) -> None:
    environ = {"PENSTOCK_HTTP_PORT": "0"}
    result = penstock("doctor", "--json", directory=tmp_path, environ=environ)
    findings = msgspec.json.decode(result.stdout, type=list[dict[str, str]])
    assert {f["what"] for f in findings} == {"versions", "server", "disk", "ports", "NATS"}
    assert [f["result"] for f in findings if f["result"] != "ok"] == ["warn"]
    assert "penstock up" in findings[-1]["text"]
    assert result.returncode == 0


def test_doctor_fails_for_a_server_that_does_not_answer(tmp_path: Path) -> None:
    environ = {"PENSTOCK_NATS_URL": "nats://127.0.0.1:1"}
    result = penstock("doctor", directory=tmp_path, environ=environ)
    assert (result.returncode, "FAIL  NATS" in result.stdout) == (1, True)
