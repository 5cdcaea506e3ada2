"""What follows a restore is done to its end, however often it is interrupted, and then no more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from penstock.contracts.errors import Unavailable
from penstock.infra.bus import Bus
from penstock.infra.restored import UNSETTLED, marks
from penstock.infra.service import Frame, Service
from penstock.infra.streams import provision
from penstock.infra.testing import running_system
from penstock.progress.service import build


async def metadata(bus: Bus) -> dict[str, str]:
    info = await bus.api(f"STREAM.INFO.{bus.subjects.event_stream('progress')}")
    found: dict[str, str] = info["config"]["metadata"]
    return found


async def test_it_is_done_again_until_it_succeeds_also_by_the_next_process(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    calls: list[str] = []
    begun = asyncio.Event()

    async def interrupted() -> None:
        calls.append("interrupted")
        begun.set()
        await asyncio.sleep(60)

    async def fails_once() -> None:
        calls.append("failed" if calls[-1] == "interrupted" else "done")
        if calls[-1] == "failed":
            raise Unavailable("The server is away.")

    def with_hook(hook: Any) -> Any:
        def built(frame: Frame) -> Service[Any]:
            service = build(frame)
            service.reconcile = hook
            return service

        return {"progress": built}

    async with await Bus.connect(nats_url, prefix=prefix) as bus:
        await provision(bus)
        name = bus.subjects.event_stream("progress")
        config = (await bus.api(f"STREAM.INFO.{name}"))["config"]
        await bus.api(f"STREAM.UPDATE.{name}", {**config, "metadata": marks("r")})
        async with running_system(nats_url, prefix, tmp_path, with_hook(interrupted)):
            await begun.wait()
        assert UNSETTLED in await metadata(bus)
        async with (
            asyncio.timeout(60),
            running_system(nats_url, prefix, tmp_path, with_hook(fails_once)) as host,
        ):
            while calls[-1] != "failed" or not host.problems()["progress"]:
                await asyncio.sleep(0.01)
            assert "not put right yet: The server is away" in host.problems()["progress"][0]
            assert UNSETTLED in await metadata(bus)
            while UNSETTLED in await metadata(bus):
                await asyncio.sleep(0.02)
        async with running_system(nats_url, prefix, tmp_path, with_hook(interrupted)):
            await asyncio.sleep(0)
        assert calls == ["interrupted", "failed", "done"]
