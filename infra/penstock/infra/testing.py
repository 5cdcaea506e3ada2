"""Real nats-servers for tests, each in a directory of its own; knows nothing of any test framework.

Whatever happens to the test, its server ends: with the block, or with the process.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from penstock.infra.nats_server import Durability, EmbeddedNats


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
        server = EmbeddedNats(Path(directory), durability=durability)
        runner.run(server.start())
        try:
            yield server.url
        finally:
            runner.run(server.stop())
