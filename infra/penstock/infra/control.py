"""Asks every instance of a service to do something, and hears how far each one is.

For operators: rebuild your view, verify it, take up a held aggregate again. Each instance has its
own view, so each is asked. Never changes a log.
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from typing import Any

import msgspec
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from penstock.contracts.control import Report
from penstock.contracts.envelope import invalid
from penstock.contracts.errors import PenstockError, Timeout, Unavailable
from penstock.infra.bus import Bus

log = logging.getLogger(__name__)

GATHER = 0.75  # seconds in which every instance has to say that it is there
ALIVE = 1.0  # seconds between signs of life of one that works
ANY = "any"  # the token before a verb that is asked of one instance
SILENCE = 10.0  # seconds without one after which it counts as lost

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Report).decode


class Step(msgspec.Struct, frozen=True):
    """What a task yields: how far it is, and at its end `result`."""

    done: int = 0
    total: int = 0
    result: Any = None


Task = Callable[[Any], AsyncIterator[Step]]


class Verb(msgspec.Struct, frozen=True):
    """Something an instance can be asked: its parameters' Struct, and what it then does."""

    parameters: type[msgspec.Struct]
    task: Task


def instance_name() -> str:
    """A name for this process's part of a service, such as `host-4711-a3f0`."""
    return f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:4]}"


class Control:
    """The listening side, one for each instance of a service; a `Part`."""

    def __init__(self, bus: Bus, service: str, verbs: Mapping[str, Verb]) -> None:
        self.instance = instance_name()
        self._bus = bus
        self._service = service
        self._verbs = verbs
        self._tasks: set[asyncio.Task[None]] = set()
        self._subscriptions: list[Subscription] = []

    async def start(self) -> None:
        """Begin to listen: to what is asked of all, and to what is asked of any one."""
        subscribe, control = self._bus.nc.subscribe, self._bus.subjects.control
        of_one = control(self._service, f"{ANY}.*")
        self._subscriptions = [
            await subscribe(control(self._service, "*"), cb=self._take),
            await subscribe(of_one, queue=f"{self._service}-control", cb=self._take),
        ]

    async def stop(self) -> None:
        """Listen no more, and give up what is under way."""
        for subscription in self._subscriptions if not self._bus.nc.is_closed else ():
            await subscription.unsubscribe()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def problem(self) -> str | None:
        """See `Part.problem`."""
        return None

    async def _take(self, msg: Msg) -> None:
        task = asyncio.create_task(self._carry_out(msg), name=f"control-{self._service}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _carry_out(self, msg: Msg) -> None:
        latest = Step()

        async def sign_of_life() -> None:
            while True:
                await self._report(msg, done=latest.done, total=latest.total)
                await asyncio.sleep(ALIVE)

        signs = asyncio.create_task(sign_of_life())
        try:
            async with aclosing(self._task(msg)) as steps:  # type: ignore[type-var]
                async for step in steps:
                    latest = step
            end: dict[str, Any] = {"data": msgspec.Raw(_encode(latest.result))}
        except PenstockError as error:
            end = {"problem": error.problem()}
        except Exception as error:
            log.exception("%s: %s failed", self._service, msg.subject)
            end = {"problem": PenstockError(f"{type(error).__name__}: {error}").problem()}
        finally:
            signs.cancel()
            await asyncio.gather(signs, return_exceptions=True)
        await self._report(msg, done=latest.done, total=latest.total, ended=True, **end)

    def _task(self, msg: Msg) -> AsyncIterator[Step]:
        name = msg.subject.rpartition(".")[2]
        verb = self._verbs.get(name)
        if verb is None:
            known = ", ".join(sorted(self._verbs))
            raise PenstockError(f"{self._service} cannot {name!r}; it can {known}.")
        try:
            return verb.task(msgspec.json.decode(msg.data or b"{}", type=verb.parameters))
        except msgspec.DecodeError as error:
            raise invalid(error, name) from error

    async def _report(self, msg: Msg, **what: Any) -> None:
        await self._bus.publish(msg.reply, _encode(Report(instance=self.instance, **what)))


def ask_all(bus: Bus, service: str, verb: str, parameters: msgspec.Struct) -> AsyncIterator[Report]:
    """Ask every instance that runs; their reports as they come, until each has ended.

    Raises Unavailable if none runs, Timeout if one falls silent before its end.
    """
    return _ask(bus, service, verb, parameters)


async def ask_any(bus: Bus, service: str, verb: str, parameters: msgspec.Struct) -> Report:
    """Ask one instance, whichever: its last report.

    Raises Unavailable if none runs, Timeout if it falls silent before its end.
    """
    async with aclosing(_ask(bus, service, f"{ANY}.{verb}", parameters)) as reports:
        async for report in reports:
            if report.ended:
                return report
    raise Unavailable(f"No instance of {service} answers; is it running?")


async def _ask(
    bus: Bus, service: str, verb: str, parameters: msgspec.Struct
) -> AsyncGenerator[Report, None]:
    reports: asyncio.Queue[Report] = asyncio.Queue(10_000)

    async def take(msg: Msg) -> None:
        await reports.put(_decode(msg.data))

    inbox = bus.nc.new_inbox()
    subscription = await bus.nc.subscribe(inbox, cb=take)
    try:
        subject = bus.subjects.control(service, verb)
        await bus.publish(subject, _encode(parameters), reply=inbox)
        async for report in _until_all_ended(reports, service):
            yield report
    finally:
        if not bus.nc.is_closed:
            await subscription.unsubscribe()


async def _until_all_ended(reports: asyncio.Queue[Report], service: str) -> AsyncIterator[Report]:
    loop = asyncio.get_running_loop()
    gathered = loop.time() + GATHER
    working: dict[str, float] = {}
    seen = False
    while loop.time() < gathered or working:
        try:
            async with asyncio.timeout(0.1):
                report = await reports.get()
        except TimeoutError:
            _check_alive(working, loop.time())
            continue
        seen = True
        working[report.instance] = loop.time()
        if report.ended:
            del working[report.instance]
        yield report
    if not seen:
        raise Unavailable(f"No instance of {service} answers; is it running?")


def _check_alive(working: Mapping[str, float], now: float) -> None:
    lost = [instance for instance, heard in working.items() if now - heard > SILENCE]
    if lost:
        raise Timeout(f"{', '.join(lost)} fell silent before the end; ask again.")
