"""Real servers and systems for tests, each on its own; knows nothing of any test framework.

Whatever happens to the test, its server ends: with the block, or with the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec.structs import replace

from penstock.infra.host import Build, Host, wait_ready
from penstock.infra.nats_server import Durability, EmbeddedNats
from penstock.infra.settings import Settings


@asynccontextmanager
async def running_nats(directory: Path, *, durability: Durability = "os") -> AsyncIterator[str]:
    """The URL, with credentials, of a nats-server that keeps its data in `directory`.

    The same directory again gives the same streams and credentials. Raises `StartupError`.
    """
    async with EmbeddedNats(directory, durability=durability) as server:
        yield server.url


@contextmanager
def shared_nats(*, durability: Durability = "os") -> Iterator[str]:
    """The URL, with credentials, of a nats-server for many event loops, one after the other.

    It needs no running loop and its data go with it. A server that dies is not restarted here:
    the loop that would do it stands still between start and stop. Raises `StartupError`.
    """
    with (
        TemporaryDirectory(prefix="penstock-nats-") as directory,
        # A factory of its own leaves the thread's current loop alone.
        asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner,
    ):
        # Its data go with it: nothing is worth waiting for when it stops.
        server = EmbeddedNats(Path(directory), durability=durability, grace=1.0)
        runner.run(server.start())
        try:
            yield server.url
        finally:
            runner.run(server.stop())


@asynccontextmanager
async def running_system(
    url: str, prefix: str, directory: Path, builders: Mapping[str, Build], **changed: Any
) -> AsyncIterator[Host]:
    """Services at the nats-server `url`, under a prefix of their own, with HTTP on a free port.

    Every view has caught up when the block begins; its files are in `directory`. `changed` are
    settings other than a test's usual ones.
    """
    usual = Settings(data=str(directory), prefix=prefix, http_port=0, durability="os")
    host = Host(replace(usual, **changed), url, builders, directory / "views")
    try:
        await host.start()
        await wait_ready(host, 30)
        yield host
    finally:
        await host.drain()
