"""Runs services in one process on one port: start, readiness, drain. Never any domain."""

from __future__ import annotations

import asyncio
import gc
import logging
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from faststream.nats import NatsBroker, NatsCredentials, NatsSecurity, NatsUserPassword
from nats.aio.client import Client
from nats.errors import Error as NatsError

from penstock.client.discovery import without_password
from penstock.contracts.errors import StartupError
from penstock.infra.bus import Bus
from penstock.infra.connection import PING_INTERVAL, PINGS_UNANSWERED, RECONNECT_WAIT, login_of
from penstock.infra.http import make_app
from penstock.infra.restored import generation, refuse_interrupted
from penstock.infra.sender import Sender
from penstock.infra.service import Frame, Service
from penstock.infra.settings import Settings, variable
from penstock.infra.streams import provision, wait_for_jetstream

log = logging.getLogger(__name__)

# Views and deciders keep many thousands of states in memory, which every collection looks through:
# with Python's own thresholds that took a fifth of the time of enqueueing jobs.
COLLECT = (50_000, 20, 100)
Build = Callable[[Frame], Service[Any]]


class Host:
    """The services of this process. `start` raises StartupError; `drain` ends in good order."""

    def __init__(
        self, settings: Settings, nats_url: str, builders: Mapping[str, Build], views: Path
    ) -> None:
        self.settings = settings
        self.services: list[Service[Any]] = []
        self.http_url = ""
        self._nats_url = nats_url
        self._builders = builders
        self._views = views
        self._bus: Bus | None = None
        self._broker: NatsBroker | None = None
        self._commands: Client | None = None
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Connect, provision, fold, then take commands, then listen."""
        gc.set_threshold(*COLLECT)
        creds = Path(self.settings.nats_creds) if self.settings.nats_creds else None
        self._bus = await Bus.connect(self._nats_url, prefix=self.settings.prefix, creds=creds)
        await wait_for_jetstream(self._bus)
        await refuse_interrupted(self._bus)
        made = await provision(self._bus, replicas=self.settings.replicas)
        if made:
            log.info("streams made or changed: %s", ", ".join(made))
        frame = Frame(
            bus=self._bus,
            settings=self.settings,
            views=self._views,
            secret=self.settings.secret or kept_secret(self.settings.data_path),
            generation=await generation(self._bus),
        )
        self.services = [build(frame) for build in self._builders.values()]
        for service in self.services:
            await service.start()
        await self._take_commands(creds)
        await self._listen()

    async def drain(self) -> None:
        """No new work, finish what is in hand, flush, close. Safe after a failed `start`."""
        if self._runner:
            await self._runner.cleanup()
        if self._broker:
            seconds = self.settings.drain_seconds
            await asyncio.gather(*(s.commands.drain(seconds) for s in self.services))
            await self._disconnect(self._broker)
        for service in reversed(self.services):
            await service.stop()
        if self._bus:
            await self._bus.close()

    async def _disconnect(self, broker: NatsBroker) -> None:
        try:
            await broker.stop()
        except NatsError as error:  # there is no server to say goodbye to
            log.warning("the connection for commands ends undrained: %s", type(error).__name__)
            await self._give_up_commands()

    async def _give_up_commands(self) -> None:
        try:
            if self._commands:
                await self._commands.close()
        except OSError as error:  # it tried to send what was left
            log.warning("closing with unsent messages: %s", error)

    def problems(self) -> dict[str, list[str]]:
        """Why each part is not ready; empty lists when all is well."""
        return {
            "nats": [] if self._connected() else ["not connected"],
            **{service.name: service.problems() for service in self.services},
        }

    def _connected(self) -> bool:
        """Both connections: the bus's, and that on which commands come."""
        if self._bus is None or self._commands is None:
            return False
        return self._bus.nc.is_connected and self._commands.is_connected

    async def _take_commands(self, creds: Path | None) -> None:
        servers, security = _access(self._nats_url, creds)
        self._broker = NatsBroker(
            servers,
            security=security,
            name="penstock-commands",
            max_reconnect_attempts=-1,
            # Declared as int, and takes fractions all the same.
            reconnect_time_wait=RECONNECT_WAIT,  # type: ignore[arg-type]
            ping_interval=PING_INTERVAL,
            max_outstanding_pings=PINGS_UNANSWERED,
            graceful_timeout=self.settings.drain_seconds,
            logger=None,
            apply_types=False,
        )
        for service in self.services:
            service.commands.subscribe(self._broker)
        self._commands = await self._broker.connect()
        await self._broker.start()

    async def _listen(self) -> None:
        assert self._bus is not None
        app = make_app(self.services, Sender(self._bus), self.problems)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=self.settings.drain_seconds
        )
        await self._runner.setup()
        host, port = self.settings.http_host, self.settings.http_port
        site = web.TCPSite(self._runner, host, port)
        try:
            await site.start()
        except OSError as error:
            raise StartupError(
                f"Cannot listen on {host}:{port} ({error.strerror}); set "
                f"{variable('http_port')} to a free port, or to 0 for any."
            ) from error
        host, port = self._runner.addresses[0][:2]
        self.http_url = f"http://{host}:{port}"


def _access(url: str, creds: Path | None) -> tuple[list[str], NatsSecurity | None]:
    """The servers, and how to be let in by them and by those that they know of."""
    servers = url.split(",")
    if creds:
        return servers, NatsCredentials(str(creds))
    login = login_of(url)
    if not login:
        return servers, None
    security = NatsUserPassword(login["user"], login["password"])
    return [without_password(server) for server in servers], security


def kept_secret(directory: Path) -> str:
    """The secret that signs tokens, made once and kept in the data directory (mode 0600)."""
    path = directory / "secret"
    if not path.exists():
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = path.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(32))
        fresh.replace(path)
    return path.read_text()


async def wait_ready(host: Host, timeout: float) -> None:
    """Wait until every view has caught up with its log. Raises StartupError."""
    try:
        async with asyncio.timeout(timeout):
            for service in host.services:
                end = await service.log.last_sequence()
                await service.projector.reached(end, timeout)
    except TimeoutError as error:
        raise StartupError("The views did not catch up in time; see the log.") from error
