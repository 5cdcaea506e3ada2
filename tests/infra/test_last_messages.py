"""Those who ask for last messages at the same time share a request, and each gets its own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock.contracts.errors import Unavailable
from penstock.infra.bus import Bus
from penstock.infra.last_messages import LastMessages


@pytest.fixture
def requests(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What was asked of the server."""
    seen: list[Any] = []
    direct_get = bus.direct_get

    async def seeing(stream: str, request: dict[str, Any], **how: Any) -> Any:
        seen.append(request)
        return await direct_get(stream, request, **how)

    monkeypatch.setattr(bus, "direct_get", seeing)
    return seen


@pytest.fixture
def last(bus: Bus) -> LastMessages:
    return LastMessages(bus, bus.subjects.event_stream("progress"))


async def filled(bus: Bus, count: int, body: bytes = b"") -> list[str]:
    subjects = [bus.subjects.event("progress", f"a{n}") for n in range(count)]
    for n, subject in enumerate(subjects):
        await bus.publish_acked(subject, body or b"%d" % n)
    return subjects


async def test_those_who_ask_together_share_a_request(
    bus: Bus, last: LastMessages, requests: list[Any]
) -> None:
    subjects = await filled(bus, 30)
    missing = bus.subjects.event("progress", "missing")
    found = await asyncio.gather(*(last.of(subject, missing) for subject in subjects))
    for n, (subject, one) in enumerate(zip(subjects, found, strict=True)):
        assert {s: (m.sequence, m.data) for s, m in one.items()} == {subject: (n + 1, b"%d" % n)}
    assert len(requests) == 1
    assert await last.of(missing) == {}
    assert len(requests) == 2


async def test_no_request_has_more_subjects_than_the_server_takes(
    bus: Bus, last: LastMessages, requests: list[Any]
) -> None:
    [subject] = await filled(bus, 1)
    others = [bus.subjects.event("progress", f"missing-{n}") for n in range(2500)]
    found = await asyncio.gather(*(last.of(subject, other) for other in others))
    assert all(set(one) == {subject} for one in found)
    assert max(len(request["multi_last"]) for request in requests) <= 1024


async def test_what_is_too_large_for_one_answer_comes_in_several(
    bus: Bus, last: LastMessages, requests: list[Any]
) -> None:
    subjects = await filled(bus, 20, bytes(4 * 1024 * 1024))
    found = await asyncio.gather(*map(last.of, subjects))
    assert [list(one) for one in found] == [[subject] for subject in subjects]
    assert len(requests) > 1


async def test_an_error_is_told_to_all_who_asked(bus: Bus) -> None:
    nowhere = LastMessages(bus, "NOWHERE")
    found = await asyncio.gather(*(nowhere.of("a") for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in found] == [Unavailable] * 3


async def test_who_gives_up_does_not_keep_the_others_from_their_answer(
    bus: Bus, last: LastMessages
) -> None:
    [subject] = await filled(bus, 1)
    given_up = asyncio.create_task(last.of(subject))
    other = asyncio.create_task(last.of(subject))
    await asyncio.sleep(0)
    given_up.cancel()
    assert set(await other) == {subject}
