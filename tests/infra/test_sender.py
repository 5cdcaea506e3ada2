"""Commands and questions through connections that break: stored once, answered all the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import msgspec
import pytest
from nats.aio.msg import Msg

from penstock.contracts.answers import Answer, Outcome, Question
from penstock.contracts.errors import Unavailable
from penstock.contracts.progress import CreateProgress
from penstock.contracts.subjects import REPLY
from penstock.infra.bus import Bus
from penstock.infra.sender import Cause, Sender
from penstock.infra.streams import ensure, streams
from support.proxy import Proxy

CAUSE = Cause(correlationid="flow")


@pytest.fixture
async def commands(bus: Bus) -> str:
    """The name of the stream of commands, made."""
    name = bus.subjects.stream("cmd")
    await ensure(bus, next(config for config in streams(bus.subjects) if config["name"] == name))
    return name


@pytest.fixture
async def service(bus: Bus, commands: str) -> AsyncIterator[list[str]]:
    """Answers commands and questions of progress; what it was asked."""
    asked: list[str] = []

    async def decide(msg: Msg) -> None:
        asked.append(msg.subject)
        outcome = Outcome(id="c-1", sequence=7)
        await bus.publish((msg.headers or {})[REPLY], msgspec.json.encode(outcome))

    async def answer(msg: Msg) -> None:
        asked.append(msg.subject)
        await msg.respond(msgspec.json.encode(Answer(data=msgspec.Raw(b"42"))))

    await bus.nc.subscribe(bus.subjects.command("progress", "*"), cb=decide)
    await bus.nc.subscribe(bus.subjects.query("progress", "*"), cb=answer)
    await bus.nc.flush()
    yield asked


async def stored(bus: Bus, stream: str) -> int:
    state = (await bus.api(f"STREAM.INFO.{stream}"))["state"]
    return int(state["messages"])


async def test_a_command_whose_receipt_is_lost_is_stored_once(
    bus: Bus, cut_bus: Bus, proxy: Proxy, commands: str
) -> None:
    proxy.lose, proxy.cut_then = b'"seq":', True
    accepted = await Sender(cut_bus).post(CreateProgress(), id="a", command_id="c-1", cause=CAUSE)
    assert (accepted.id, accepted.subject) == ("c-1", "a")
    assert proxy.lost.is_set()
    assert await stored(bus, commands) == 1


async def test_a_command_whose_receipt_is_lost_has_its_outcome_all_the_same(
    cut_bus: Bus, proxy: Proxy, service: list[str]
) -> None:
    proxy.lose, proxy.cut_then = b'"seq":', True
    outcome = await Sender(cut_bus).send(CreateProgress(), id="a", command_id="c-1", cause=CAUSE)
    assert outcome.sequence == 7
    assert proxy.lost.is_set()


async def test_a_question_whose_answer_is_lost_is_asked_again(
    cut_bus: Bus, proxy: Proxy, service: list[str]
) -> None:
    proxy.lose, proxy.cut_then = b'"data":42', True
    data, _ = await Sender(cut_bus).ask("progress", "sum", Question(), int)
    assert data == 42
    assert len(service) == 2


async def test_a_service_that_is_connecting_again_just_now_is_asked_once_more(bus: Bus) -> None:
    asking = asyncio.create_task(Sender(bus).ask("progress", "sum", Question(), int))
    await asyncio.sleep(0.1)  # it hears that nobody is there, and waits longer than this

    async def answer(msg: Msg) -> None:
        await msg.respond(b'{"data":42}')

    await bus.nc.subscribe(bus.subjects.query("progress", "*"), cb=answer)
    data, _ = await asking
    assert data == 42


async def test_a_service_that_does_not_run_is_said_soon(bus: Bus) -> None:
    async with asyncio.timeout(10):
        with pytest.raises(Unavailable, match="is the service running"):
            await Sender(bus).ask("progress", "sum", Question(), int)
