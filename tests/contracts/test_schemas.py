"""The committed artefacts, held against official parsers and against what really goes about."""

from __future__ import annotations

import asyncio
import re
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
import yaml
from aiohttp import web
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import OpenAPIV31SpecValidator

from artefacts.committed import PLACE, differing, on_disk
from artefacts.documents import documents, message_schemas
from artefacts.message_schemas import every_message
from penstock.cli.builders import builders
from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import decode, encode, unwrap, wrap
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.subjects import SERVICES, Subjects
from penstock.infra.host import Host
from penstock.infra.http import PostCommand, make_app
from penstock.infra.sender import Sender
from penstock.infra.testing import running_system
from support.node import node_program
from support.samples import sample

ROOT = Path(__file__).parent.parent.parent
FILES = on_disk(ROOT / PLACE)
MESSAGES = message_schemas(FILES)
STRUCTS = every_message()
OPENAPI = {path: yaml.safe_load(FILES[path]) for path in FILES if path.startswith("openapi/")}
NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


def test_what_is_committed_is_what_the_code_gives_in_whatever_order_it_is_imported() -> None:
    assert differing(asyncio.run(documents()), FILES) == []


# -- JSON Schema ----------------------------------------------------------------------------------


def written(struct: type[msgspec.Struct], *, full: bool) -> Any:
    """The JSON of a message of this type, as the code writes it."""
    envelope = wrap(
        sample(struct, full=full),
        id="c-1:1",
        subject="a/1",
        time=NOW,
        correlationid="flow-1",
        version=1,
        causationid="c-1" if full else None,
        actor="ada" if full else None,
        traceparent="00-1-2-01" if full else None,
    )
    unwrap(envelope)
    return msgspec.json.decode(encode(envelope))


@pytest.mark.parametrize("name", MESSAGES)
def test_every_message_that_is_written_fits_its_schema(name: str) -> None:
    Draft202012Validator.check_schema(MESSAGES[name])
    schema = Draft202012Validator(MESSAGES[name], format_checker=FormatChecker())
    for full in (False, True):
        schema.validate(written(STRUCTS[name], full=full))


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_without_what_its_type_requires_fits_no_schema(name: str) -> None:
    schema = Draft202012Validator(MESSAGES[name], format_checker=FormatChecker())
    message = written(STRUCTS[name], full=True)
    wrong = [{**message, "type": "penstock.other.v1"}, {**message, "time": "2026-01-31T09:30:00"}]
    wrong += [{k: v for k, v in message.items() if k != gone} for gone in ("id", "data", "time")]
    required = MESSAGES[name]["$defs"][STRUCTS[name].__name__]["required"]
    for gone in required:
        data = {k: v for k, v in message["data"].items() if k != gone}
        wrong.append({**message, "data": data})
    assert not [message for message in wrong if schema.is_valid(message)]


def test_a_time_without_its_offset_is_refused_as_the_schemas_say() -> None:
    message = written(STRUCTS["penstock.jobs.queued.v1"], full=True)
    with pytest.raises(InvalidMessage, match=r"\$\.time"):
        decode(msgspec.json.encode({**message, "time": "2026-01-31T09:30:00"}))
    message["data"]["run_at"] = "2026-01-31T09:30:00"
    with pytest.raises(InvalidMessage, match=r"\$\.data\.run_at"):
        unwrap(decode(msgspec.json.encode(message)))


# -- AsyncAPI: the parser of its own project ------------------------------------------------------

PARSER = ROOT / "tools/asyncapi"


@pytest.fixture(scope="session")
def node() -> str:
    return node_program(PARSER)


def parse(node: str, document: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [node, PARSER / "parse.mjs", document],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.timeout(300)  # the parser is installed first
def test_the_official_parser_takes_the_asyncapi_document(node: str) -> None:
    result = parse(node, ROOT / PLACE / "asyncapi.yaml")
    assert result.returncode == 0, result.stderr
    channels = len(yaml.safe_load(FILES["asyncapi.yaml"])["channels"])
    assert result.stdout == f"3.0.0 {channels} channels\n"


def test_the_official_parser_would_tell_of_a_reference_that_leads_nowhere(
    node: str, tmp_path: Path
) -> None:
    text = FILES["asyncapi.yaml"].replace("schemas/JobError'", "schemas/JobMistake'")
    (tmp_path / "asyncapi.yaml").write_text(text)
    result = parse(node, tmp_path / "asyncapi.yaml")
    assert (result.returncode, "JobMistake" in result.stderr) == (1, True)


def channel_of(subject: str, document: Mapping[str, Any]) -> dict[str, Any]:
    """The channel that has a subject's address, rather than a pattern that it fits."""
    found: list[dict[str, Any]] = [
        channel
        for channel in document["channels"].values()
        if re.fullmatch(re.sub(r"{\w+}", "[^.]+", channel["address"] or "-"), subject)
    ]
    assert found, f"{subject} is on no channel"
    return min(found, key=lambda channel: len(channel.get("parameters", {})))


def test_every_subject_is_a_channel_with_what_is_said_there() -> None:
    document = yaml.safe_load(FILES["asyncapi.yaml"])
    subjects = Subjects()
    said = {
        subjects.event("jobs", "a.b"): "penstock.jobs.queued.v1",
        subjects.command("jobs", "enqueue"): "penstock.jobs.enqueue.v1",
        subjects.command("search", "erase"): "penstock.search.erase.v1",
        subjects.event("cache", "user"): "penstock.cache.archived.v1",
        subjects.query("exports", "formats"): "exports.formats.question",
        subjects.change("user", "1"): "penstock.changes.entity_changed.v1",
        subjects.work("default", 5, "j"): "penstock.jobs.ready.v1",
        subjects.timer("jobs", "j"): "penstock.jobs.due.v1",
        subjects.due("jobs", "j"): "penstock.jobs.due.v1",
        subjects.dead_letter("jobs", "command", "", 7): "deadLetter",
        subjects.dead_letter("exports", "work", "exports-renderer", 7): "deadLetter",
    }
    for subject, message in said.items():
        assert message in channel_of(subject, document)["messages"], subject
    for subject in (subjects.live("jobs", "j"), subjects.control("jobs", "anything")):
        assert channel_of(subject, document)
    events = channel_of(subjects.event("jobs", "a"), document)["messages"]
    assert not {"penstock.jobs.ready.v1", "penstock.jobs.due.v1"} & set(events)


# -- OpenAPI: the JSON Schema of the OpenAPI Initiative, and what it cannot say -------------------


@pytest.mark.parametrize("path", OPENAPI)
def test_every_openapi_document_is_valid(path: str) -> None:
    assert [str(error) for error in OpenAPIV31SpecValidator(OPENAPI[path]).iter_errors()] == []


def test_there_is_one_document_for_each_service_and_one_for_every_process() -> None:
    assert set(OPENAPI) == {f"openapi/{name}.yaml" for name in (*SERVICES, "system")}
    for service in SERVICES:
        paths = OPENAPI[f"openapi/{service}.yaml"]["paths"]
        assert {p.split("/")[1] for p in paths} == {service, "commands"}
        assert {p.split("/")[2] for p in paths if p.startswith("/commands")} == {service}


@pytest.fixture
async def host(nats_url: str, prefix: str, tmp_path: Path) -> Any:
    async with running_system(nats_url, prefix, tmp_path, builders()) as running:
        yield running


async def test_what_a_process_serves_of_itself_is_what_is_committed(host: Host) -> None:
    async with (
        aiohttp.ClientSession(host.http_url) as http,
        http.get("/openapi.json") as response,
    ):
        served = await response.json()
    committed = {path: item for one in OPENAPI.values() for path, item in one["paths"].items()}
    assert served["paths"].keys() == committed.keys()
    same = [path for path in committed if served["paths"][path] == committed[path]]
    assert set(committed) - set(same) <= _with_equal_names(committed)
    assert not list(OpenAPIV31SpecValidator(served).iter_errors())


def _with_equal_names(paths: Mapping[str, Any]) -> set[str]:
    """Where a name stands that several services have, and that is longer in a common document."""
    return {path for path, item in paths.items() if "schemas/DocumentState" in str(item)}


async def test_every_route_of_a_process_is_described(host: Host) -> None:
    assert host._bus
    app = make_app(host.services, Sender(host._bus), host.problems)
    described = {path for one in OPENAPI.values() for path in one["paths"]}
    described.add("/commands/{service}/{verb}")
    routes = [r for r in app.router.routes() if isinstance(r, web.ResourceRoute)]
    assert {route.resource.canonical for route in routes if route.resource} == {
        path for path in described if not path.startswith("/commands/") or "{" in path
    }


def test_a_command_over_http_is_described_with_every_member_of_its_body() -> None:
    operation = OPENAPI["openapi/jobs.yaml"]["paths"]["/commands/jobs/enqueue"]["post"]
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    assert set(body["properties"]) == set(PostCommand.__struct_fields__)
    answers = operation["responses"]
    assert {"200", "202", "404", "409", "413", "422", "503", "504"} <= set(answers)
    outcome = answers["200"]["content"]["application/json"]["schema"]
    assert set(outcome["properties"]) == set(Outcome.__struct_fields__) - {"problem"}
