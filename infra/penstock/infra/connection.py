"""A connection to NATS that is made again whenever it is lost. Never sends a message of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from nats.errors import Error as NatsError
from nats.js.client import JetStreamContext

from penstock.contracts.errors import Unavailable
from penstock.contracts.subjects import Subjects
from penstock.infra.inbox import Inbox
from penstock.infra.nats_client import NatsClient

log = logging.getLogger(__name__)

PENDING_BYTES = 64 * 1024 * 1024
# What every connection of ours asks of the client library. It waits so long between two attempts
# to reach a server, and gives up one that has been as silent as this, frozen or cut off.
RECONNECT_WAIT = 0.1  # seconds
PING_INTERVAL, PINGS_UNANSWERED = 1, 2  # seconds, and how many


class Connection:
    """One connection with the system's subjects. Made by `connect`, ended by `close`.

    `connections` counts how often it connected: another number than before means that what the
    server sent meanwhile, or was about to send, is lost. `listeners` are called when it connected
    again.
    """

    def __init__(self, nc: NatsClient, subjects: Subjects, *, timeout: float = 10.0) -> None:
        self.nc = nc
        self.subjects = subjects
        self.timeout = timeout
        self._opened = False
        self.listeners: set[Callable[[], object]] = set()
        self.js: JetStreamContext = nc.jetstream(timeout=timeout)
        self._inbox = Inbox(nc.new_inbox())
        self._sweeper: asyncio.Task[None] | None = None
        self._trouble: Exception | None = None

    @classmethod
    async def connect(
        cls,
        url: str,
        *,
        prefix: str = "penstock",
        name: str = "penstock",
        creds: Path | None = None,
        timeout: float = 10.0,
    ) -> Self:
        """Connect to the server(s) at `url` (comma-separated). Raises Unavailable.

        Once connected it reconnects for as long as it takes. What is sent meanwhile waits for
        that; what was sent before and not yet answered fails with ConnectionLost.
        """
        made = cls(NatsClient(), Subjects(prefix), timeout=timeout)
        try:
            await made._connect_within(timeout, made._connect(url, name, creds))
        except (OSError, NatsError, TimeoutError) as error:
            await made.nc.close()
            reason = str(made._trouble or "") or type(error).__name__
            raise Unavailable(
                f"No NATS server answers at {_without_secret(url)} ({reason}); "
                "start one with `penstock up`, or correct PENSTOCK_NATS_URL."
            ) from error
        await made._open()
        return made

    @property
    def connections(self) -> int:
        """How often it connected: known before anything comes over the new connection."""
        return 1 + self.nc.stats["reconnects"] if self._opened else 0

    async def close(self) -> None:
        """Flush, close the connection and fail whatever still waits."""
        if self._sweeper:
            self._sweeper.cancel()
        try:
            if self.nc.is_connected:
                await self.nc.flush(timeout=2)
        except NatsError as error:
            log.warning("closing with unsent messages: %s", error)
        try:
            await self.nc.close()
        except OSError as error:  # it tried to send them after all
            log.warning("closing with unsent messages: %s", error)
        self._inbox.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def _connect_within(self, timeout: float, connecting: Coroutine[Any, Any, None]) -> None:
        """Raise TimeoutError after `timeout` seconds.

        Not `wait_for`: the client library can lose a cancellation, and would be waited for.
        """
        task = asyncio.create_task(connecting, name="connect")
        try:
            await asyncio.wait({task}, timeout=timeout)
        finally:
            if not task.done():
                self.nc.is_given_up = True
                task.cancel()
        if not task.done():
            raise TimeoutError
        task.result()

    async def _connect(self, url: str, name: str, creds: Path | None) -> None:
        # The client declares seconds as int and takes fractions all the same.
        options: dict[str, Any] = {
            "reconnect_time_wait": RECONNECT_WAIT,
            "connect_timeout": min(2, self.timeout),
        }
        if creds:
            options["user_credentials"] = str(creds)
        elif login := login_of(url):
            options |= login
        await self.nc.connect(
            url.split(","),
            name=name,
            max_reconnect_attempts=-1,
            allow_reconnect=True,
            pending_size=PENDING_BYTES,
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=PINGS_UNANSWERED,
            error_cb=self._report,
            disconnected_cb=self._disconnected,
            reconnected_cb=self._reconnected,
            **options,
        )

    async def _open(self) -> None:
        await self.nc.receive(self._inbox.subject, self._inbox.take)
        self._sweeper = asyncio.create_task(self._inbox.sweep(), name="bus-deadlines")
        self._opened = True

    async def _disconnected(self) -> None:
        log.info("disconnected from NATS")
        self._inbox.lose()

    async def _reconnected(self) -> None:
        log.info("connected to NATS again")
        for listener in tuple(self.listeners):
            listener()

    async def _report(self, error: Exception) -> None:
        # A refusal tells more than the closed connection behind it.
        if not (isinstance(self._trouble, NatsError) and isinstance(error, OSError)):
            self._trouble = error
        if self._opened:  # until then `connect` raises it
            log.warning("NATS: %s", str(error) or type(error).__name__)


def login_of(url: str) -> dict[str, str]:
    """User and password in `url`, for all servers: those that it names, and those they know of.

    Empty without them, or if they differ. A cluster tells its clients of servers without them.
    """
    parts = [urlsplit(part) for part in url.split(",")]
    logins = {(part.username, part.password) for part in parts}
    user, password = logins.pop()
    if logins or not user or not password:
        return {}
    return {"user": unquote(user), "password": unquote(password)}


def _without_secret(url: str) -> str:
    return ",".join(part.rpartition("@")[2] or part for part in url.split(","))
