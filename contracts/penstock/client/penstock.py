"""`Penstock`: one connection to the system, with an attribute for each of its services."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager

from penstock.client.cache import Cache
from penstock.client.changes import Changes
from penstock.client.discovery import connection_target
from penstock.client.exports import Exports
from penstock.client.jobs import Jobs
from penstock.client.notifications import Notifications
from penstock.client.progress import Progress
from penstock.client.queues import Queues
from penstock.client.schedules import Schedules
from penstock.client.search import Search
from penstock.client.session import Session, caused_by, present_cause
from penstock.client.workflows import Workflows
from penstock.contracts.answers import FlowOf, HistoryEntry
from penstock.contracts.errors import Unavailable
from penstock.contracts.subjects import SERVICES
from penstock.infra.bus import Bus
from penstock.infra.sender import Cause


class Penstock:
    """An asynchronous client; use it as `async with Penstock() as ps`.

    `url` is one or more NATS addresses, comma-separated. Without it, PENSTOCK_NATS_URL (and
    PENSTOCK_NATS_CREDS) are taken, else the system that `penstock up` runs in this directory or
    above it. `http_url` is the HTTP API's address, which only `notifications.listen` needs; without
    it and `url`, PENSTOCK_HTTP_URL is taken, or that system's. `actor` is who acts, for the
    history; `timeout` is each call's, in seconds.
    Raises Unavailable on entering if there is no system, with what to do about it.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        http_url: str | None = None,
        actor: str | None = None,
        prefix: str = "penstock",
        timeout: float = 10.0,
    ) -> None:
        self._url = url
        self._http_url = http_url
        self._actor = actor
        self._prefix = prefix
        self._timeout = timeout
        self._bus: Bus | None = None
        self.cache = Cache()  # here already, for decorators at module level

    async def connect(self) -> Penstock:
        """Connect, as `async with` does."""
        target = connection_target(self._url, os.environ)
        self._bus = await Bus.connect(
            target.nats_url,
            prefix=self._prefix,
            name=self._actor or "penstock-client",
            creds=target.creds_path,
            timeout=self._timeout,
        )
        self.session = Session(self._bus, actor=self._actor, timeout=self._timeout)
        self.progress = Progress(self.session)
        self.jobs = Jobs(self.session)
        self.queues = Queues(self.session)
        self.schedules = Schedules(self.session)
        self.workflows = Workflows(self.session)
        self.notifications = Notifications(self.session, self._http_url or target.http_url)
        self.search = Search(self.session)
        self.exports = Exports(self.session)
        self.cache.connect(self.session)
        self.changes = Changes(self.session, self.cache.changed)
        return self

    async def close(self) -> None:
        """Flush and disconnect."""
        await self.cache.close()
        if self._bus:
            await self._bus.close()

    async def __aenter__(self) -> Penstock:
        return await self.connect()

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    @contextmanager
    def correlated(self, flow: str) -> Iterator[None]:
        """Every command sent inside belongs to the flow `flow`, an id of your own."""
        present = present_cause()
        actor = present.actor if present else self._actor
        with caused_by(Cause(correlationid=flow, actor=actor)):
            yield

    async def flow(self, id: str) -> list[HistoryEntry]:
        """Every event of a flow in every service that runs, in the order they happened."""
        found = await asyncio.gather(*(self._flow_in(service, id) for service in SERVICES))
        entries = [entry for part in found for entry in part]
        return sorted(entries, key=lambda entry: (entry.time, entry.service, entry.sequence))

    async def _flow_in(self, service: str, id: str) -> list[HistoryEntry]:
        try:
            entries, _ = await self.session.ask(service, "flow", FlowOf(id=id), list[HistoryEntry])
        except Unavailable:
            return []
        return entries
