"""Every answer of every service tells the sequence that it reflects, and waits for one if asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from penstock.cli.builders import builders
from penstock.client import Document, Penstock, SearchDocument
from penstock.contracts.answers import Answer
from penstock.contracts.errors import Problem
from penstock.infra.host import Host
from penstock.infra.queries import Endpoint
from penstock.infra.testing import running_system
from support.workload import mixed

# What is asked for where an endpoint has such a parameter; others have their defaults.
KNOWN = {
    "progress": "p-1",
    "notifications": "user:u",
    "cache": "user",
    "search": "always",
}


class Asker:
    """Asks an endpoint in the two ways there are, and holds the answers to the same."""

    def __init__(self, ps: Penstock, http: aiohttp.ClientSession, known: dict[str, str]) -> None:
        self._bus = ps.session.bus
        self._http = http
        self._known = known

    async def over_nats(self, service: str, endpoint: Endpoint, **asked: Any) -> Answer:
        body = msgspec.json.encode(self._parameters(service, endpoint) | asked)
        subject = self._bus.subjects.query(service, endpoint.name)
        return msgspec.json.decode(await self._bus.request(subject, body, timeout=60), type=Answer)

    async def over_http(self, service: str, endpoint: Endpoint, **asked: Any) -> Answer:
        assert endpoint.path is not None
        parameters = self._parameters(service, endpoint) | asked
        path = endpoint.path.format(**parameters)
        sent = {name: v for name, v in parameters.items() if f"{{{name}}}" not in endpoint.path}
        plain = {name: str(v).lower() if v is True else v for name, v in sent.items()}
        how: dict[str, Any] = {"json": sent} if endpoint.method == "POST" else {"params": plain}
        async with self._http.request(endpoint.method, path, **how) as response:
            body = await response.read()
            header = int(response.headers["Penstock-Sequence"])
        if response.status != 200:
            problem = msgspec.json.decode(body, type=Problem)
            assert problem.fields["sequence"] == header
            return Answer(sequence=header, problem=problem)
        answer = msgspec.json.decode(body, type=Answer)
        assert answer.sequence == header
        return answer

    async def ask(self, service: str, endpoint: Endpoint, **asked: Any) -> list[Answer]:
        """The answers over NATS and, where it has a path, over HTTP."""
        ways = [self.over_nats(service, endpoint, **asked)]
        if endpoint.path is not None:
            ways.append(self.over_http(service, endpoint, **asked))
        return await asyncio.gather(*ways)

    def _parameters(self, service: str, endpoint: Endpoint) -> dict[str, Any]:
        samples = {"id": self._known[service], "user": "u", "query": "fox"}
        if endpoint.path is not None and "{name}" in endpoint.path:
            samples["name"] = self._known["schedule"]
        names = {field.name for field in msgspec.structs.fields(endpoint.params)}
        return {name: value for name, value in samples.items() if name in names}


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, builders()) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        await mixed(client, "1")
        yield client


@pytest.fixture
async def asker(system: Host, ps: Penstock) -> AsyncIterator[Asker]:
    known = {
        **KNOWN,
        "jobs": (await ps.jobs.list())[0].id,
        "exports": (await ps.exports.list())[0].id,
        "schedule": (await ps.schedules.put("nightly", "brief", cron="@daily")).name,
    }
    async with aiohttp.ClientSession(system.http_url) as http:
        yield Asker(ps, http, known)


def endpoints(system: Host) -> list[tuple[str, Endpoint]]:
    found = [(s.name, endpoint) for s in system.services for endpoint in s.endpoints]
    assert len(found) > 6 * 3
    return found


async def ends(system: Host) -> dict[str, int]:
    """The ends of all logs, which the views have reached."""
    for service in system.services:
        await service.projector.reach_end()
    return {service.name: service.projector.sequence for service in system.services}


async def one_of_each(ps: Penstock) -> None:
    """Write something to every service, and read nothing."""
    await ps.progress.create("p-2")
    await ps.notifications.send("u", {"title": "2"})
    await ps.jobs.enqueue("wait")
    await ps.exports.put("talk", "t-2", Document(title="2", segments=()))
    await ps.cache.invalidate(["user"])
    await ps.search.index(SearchDocument(id="s-2", content="fox"))


async def test_every_answer_reflects_at_least_what_was_asked_for_and_says_so(
    system: Host, asker: Asker
) -> None:
    end = await ends(system)
    for service, endpoint in endpoints(system):
        for answer in await asker.ask(service, endpoint, min_seq=end[service]):
            assert answer.problem is None, (service, endpoint.name, answer)
            assert answer.sequence >= end[service], (service, endpoint.name)


async def test_none_answers_before_its_view_is_there_and_each_says_where_it_is(
    system: Host, asker: Asker
) -> None:
    end = await ends(system)
    for service, endpoint in endpoints(system):
        for answer in await asker.ask(service, endpoint, min_seq=end[service] + 1, wait=0.02):
            assert answer.problem is not None, (service, endpoint.name)
            assert answer.sequence == end[service], (service, endpoint.name)


async def test_all_wait_for_a_sequence_and_are_answered_once_it_is_there(
    system: Host, asker: Asker, ps: Penstock
) -> None:
    end = await ends(system)
    asked = [
        asyncio.create_task(asker.ask(service, endpoint, min_seq=end[service] + 1, wait=30))
        for service, endpoint in endpoints(system)
    ]
    _, pending = await asyncio.wait(asked, timeout=0.2)
    assert len(pending) == len(asked)
    await mixed(ps, "2")
    answered = await asyncio.gather(*asked)
    for (service, endpoint), answers in zip(endpoints(system), answered, strict=True):
        for answer in answers:
            assert answer.problem is None, (service, endpoint.name, answer)
            assert answer.sequence > end[service], (service, endpoint.name)


async def test_all_wait_for_the_end_of_the_log_if_they_are_to_answer_from_there(
    system: Host, asker: Asker, ps: Penstock
) -> None:
    end = await ends(system)
    async with AsyncExitStack() as behind:
        for one in system.services:
            await behind.enter_async_context(one.projector.paused())
        await one_of_each(ps)
        asked = [
            asyncio.create_task(asker.ask(service, endpoint, newest=True, wait=30))
            for service, endpoint in endpoints(system)
        ]
        await asyncio.wait(asked, timeout=0.5)
    answered = await asyncio.gather(*asked)
    for (service, endpoint), answers in zip(endpoints(system), answered, strict=True):
        for answer in answers:
            assert answer.problem is None, (service, endpoint.name, answer)
            assert answer.sequence > end[service], (service, endpoint.name)


async def test_not_to_be_found_is_told_with_the_sequence_as_well(
    system: Host, asker: Asker
) -> None:
    end = await ends(system)
    for service, endpoint in endpoints(system):
        if endpoint.name in ("get", "history"):
            for answer in await asker.ask(service, endpoint, id="nobody"):
                assert answer.problem is not None
                assert answer.sequence == end[service], (service, endpoint.name)
