"""A running notifications service, its SDK, and a client that speaks the raw protocol to it."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from penstock.client import Penstock
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.notifications.limits import Limits
from penstock.notifications.service import build

PATIENCE = 60.0


class Wire:
    """One socket. Reading takes messages in the order they came."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self._lines: deque[dict[str, Any]] = deque()

    async def send(self, **request: Any) -> None:
        await self.socket.send_str(json.dumps(request))

    async def receive(self) -> dict[str, Any]:
        """The next message; fails if the socket is closed instead."""
        while not self._lines:
            message = await self.socket.receive(timeout=PATIENCE)
            assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
            self._lines.extend(json.loads(line) for line in message.data.split("\n"))
        return self._lines.popleft()

    async def ask(self, **request: Any) -> dict[str, Any]:
        """The reply to a request that is the only one under way."""
        await self.send(id=7, **request)
        while (reply := await self.receive()).get("id") != 7:
            assert reply.keys() & {"ping", "ev", "live"}, reply
        return reply

    async def event(self) -> dict[str, Any]:
        """The next event, past anything else."""
        while "ev" not in (message := await self.receive()):
            pass
        event: dict[str, Any] = message["ev"]
        return event

    async def events(self, count: int) -> list[dict[str, Any]]:
        return [await self.event() for _ in range(count)]

    def cut(self) -> None:
        """Lose the connection without a goodbye, as a phone in a tunnel does."""
        connection = self.socket._response.connection
        assert connection is not None and connection.transport is not None
        connection.transport.abort()

    def release(self) -> None:
        """Let go of the connection, whatever state the socket is in."""
        self.socket._response.close()

    async def closed(self) -> int | None:
        """Read to the end: the close code."""
        while (await self.socket.receive(timeout=PATIENCE)).type is aiohttp.WSMsgType.TEXT:
            pass
        return self.socket.close_code


Open = Callable[..., Awaitable[Wire]]
Start = Callable[..., Awaitable[Host]]


@pytest.fixture
async def start(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Start the service, with settings or `limits` of its own."""
    async with AsyncExitStack() as stack:

        async def started(*, limits: Limits | None = None, **changed: Any) -> Host:
            builders = {"notifications": lambda frame: build(frame, limits or Limits())}
            system = running_system(nats_url, prefix, tmp_path, builders, **changed)
            return await stack.enter_async_context(system)

        yield started


@pytest.fixture
async def host(request: pytest.FixtureRequest, start: Start) -> Host:
    """The service; `@pytest.mark.parametrize("host", [Limits(...)], indirect=True)` limits it."""
    return await start(limits=getattr(request, "param", None))


@pytest.fixture
async def ps(host: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, http_url=host.http_url, prefix=prefix) as client:
        yield client


@pytest.fixture
async def open_wire(host: Host, ps: Penstock) -> AsyncIterator[Open]:
    """Open a socket; with a user it has connected."""
    wires: list[Wire] = []
    async with aiohttp.ClientSession() as http, asyncio.timeout(60):

        async def opened(user: str | None = None, **headers: str) -> Wire:
            url = f"{host.http_url}/notifications/ws"
            wire = Wire(await http.ws_connect(url, headers=headers))
            wires.append(wire)
            if user is not None:
                token = (await ps.notifications.token(user)).token
                answer = await wire.ask(connect={"token": token, "ver": 1})
                if "connect" not in answer:
                    wire.release()
                assert "connect" in answer
            return wire

        yield opened
        for wire in wires:
            wire.release()
