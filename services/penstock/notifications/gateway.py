"""The WebSocket gateway: takes sockets in and lets them go. Never decides what they read."""

from __future__ import annotations

import asyncio

from aiohttp import WSCloseCode, web

from penstock.contracts.notifications import FeedState
from penstock.contracts.push import MAX_FRAME, PATH, PROTOCOL, Close
from penstock.infra.auth import Tokens
from penstock.infra.routes import Reply, Route
from penstock.infra.service import Service
from penstock.infra.telemetry import SOCKETS
from penstock.notifications.admission import Admission, Visitor, origins
from penstock.notifications.connection import Connection
from penstock.notifications.feed_log import FeedLog
from penstock.notifications.hub import Hub
from penstock.notifications.limits import Limits
from penstock.notifications.outlet import Outlet

MOST_OF_DRAIN = 0.5  # of the time that the process has to drain


class Gateway:
    """Serves every socket of the process from one live source, the view's listener."""

    def __init__(
        self,
        service: Service[FeedState],
        tokens: Tokens,
        limits: Limits,
        *,
        allowed_origins: str,
        drain_seconds: float,
    ) -> None:
        self._hub = Hub(service.model)
        self._log = FeedLog(service.log)
        self._tokens = tokens
        self._limits = limits
        self._admission = Admission(limits, origins(allowed_origins))
        self._drain_seconds = drain_seconds
        self._connections: set[Connection] = set()
        self._draining = False
        service.projector.listen(self._hub.publish)

    async def start(self) -> None:
        """Learn the stream's epoch."""
        await self._log.open()

    async def stop(self) -> None:
        """The sockets have ended before: `drain`."""

    def problem(self) -> str | None:
        """Nothing of its own can fail for long: it depends on the view and the log alone."""
        return None

    def route(self) -> Route:
        """Where sockets come in."""
        return Route(
            name="socket",
            path=PATH,
            handler=self.accept,
            summary="A WebSocket with a user's notifications and channels",
            description="What is said over it is the channel `notifications.socket` of the "
            "AsyncAPI document. Its first message carries an access token.",
            headers={
                "Upgrade": "websocket",
                "Sec-WebSocket-Protocol": PROTOCOL,
                "Origin": "sent by browsers; this host, or one of PENSTOCK_ALLOWED_ORIGINS",
            },
            replies={101: Reply("The connection is a WebSocket from here on.")},
            problems=(400, 403, 429, 503),
        )

    async def accept(self, request: web.Request) -> web.StreamResponse:
        """`GET /notifications/ws`: one socket from its handshake to its end."""
        if self._draining:
            raise web.HTTPServiceUnavailable(reason="Shutting down")
        visitor = self._admission.admit(request)
        try:
            return await self._serve(request, visitor)
        finally:
            visitor.leave()

    async def _serve(self, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=(PROTOCOL,),
            compress=False,  # it costs hundreds of KiB a socket, and no frame could be shared
            max_msg_size=MAX_FRAME,
            timeout=self._limits.to_close,
        )
        await socket.prepare(request)
        connection = self._connection(socket, request.transport, visitor)
        self._connections.add(connection)
        SOCKETS.inc()
        try:
            await connection.serve()
        except Exception:
            await socket.close(code=WSCloseCode.INTERNAL_ERROR, message=b"internal error")
            raise
        finally:
            SOCKETS.dec()
            self._connections.discard(connection)
        return socket

    def _connection(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport | None,
        visitor: Visitor,
    ) -> Connection:
        if transport is None:
            raise ConnectionResetError("The client left during the handshake.")
        outlet = Outlet(socket, transport, bound=self._limits.queue, to_close=self._limits.to_close)
        return Connection(
            socket,
            outlet,
            visitor,
            hub=self._hub,
            feed_log=self._log,
            tokens=self._tokens,
            limits=self._limits,
        )

    async def drain(self, _: web.Application) -> None:
        """Close every socket, spread so that they do not come back to the others all at once."""
        self._draining = True
        connections = list(self._connections)
        spread = min(
            len(connections) / self._limits.closes_a_second, MOST_OF_DRAIN * self._drain_seconds
        )
        for connection in connections:
            connection.outlet.close(Close.SHUTDOWN, "shutting down; connect again")
            await asyncio.sleep(spread / len(connections))
