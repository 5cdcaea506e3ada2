"""Whether a view is what its events say, with progress as the example."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import apsw
import msgspec
import pytest

from penstock.client import Penstock
from penstock.contracts.control import Report
from penstock.contracts.errors import from_problem
from penstock.contracts.lifecycle import ERASE
from penstock.contracts.views import Rebuild, Verified, Verify
from penstock.infra.control import ask_all
from penstock.infra.host import Host
from penstock.infra.testing import running_system
from penstock.progress.service import build
from support.filling import fill

EVENTS = 3_000


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    """A system with many events in its view."""
    async with running_system(nats_url, prefix, tmp_path, {"progress": build}) as host:
        await fill(host.services[0].bus, EVENTS)
        await host.services[0].projector.reached(EVENTS, 30)
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix, timeout=60) as client:
        yield client


async def ended(ps: Penstock, verb: str, parameters: msgspec.Struct) -> Report:
    [end] = [r async for r in ask_all(ps.session.bus, "progress", verb, parameters) if r.ended]
    if end.problem:
        raise from_problem(end.problem)
    return end


async def verified(ps: Penstock) -> Verified:
    return msgspec.json.decode((await ended(ps, "verify", Verify())).data, type=Verified)


def tamper(directory: Path, sql: str) -> int:
    """Change the view behind the back of the service; the number of rows."""
    [path] = (directory / "views").glob("progress.*.sqlite")
    db = apsw.Connection(str(path))
    db.set_busy_timeout(5000)
    db.execute(sql)
    changed = db.total_changes()
    db.close()
    return changed


async def test_a_view_is_as_its_events_say_and_nothing_is_left_behind(
    system: Host, ps: Penstock, tmp_path: Path
) -> None:
    found = await verified(ps)
    assert (found.events, found.held, found.aggregates) == (EVENTS, 0, 1000)
    assert (found.sequence, found.count, found.differences) == (EVENTS, 0, ())
    assert not list((tmp_path / "views").glob("*scratch*"))


async def test_a_state_that_was_changed_is_named_with_what_it_should_be(
    system: Host, ps: Penstock, tmp_path: Path
) -> None:
    state = "replace(state, '\"percent\":3.0', '\"percent\":99.0')"
    tamper(tmp_path, f"UPDATE aggregate SET state = CAST({state} AS BLOB) WHERE id = 'p7'")
    found = await verified(ps)
    [one] = found.differences
    assert (found.count, one.table, one.key) == (1, "aggregate", "p7")
    assert one.live and '"percent":99.0' in one.live
    assert (one.folded and '"percent":3.0' in one.folded) or '"percent":2.0' in (one.folded or "")


async def test_rows_that_are_missing_or_too_many_are_named_in_every_table(
    system: Host, ps: Penstock, tmp_path: Path
) -> None:
    tamper(
        tmp_path,
        "DELETE FROM aggregate WHERE id = 'p7'; DELETE FROM listed WHERE id = 'p8';"
        "INSERT INTO flow VALUES (99999, 'nobody'); UPDATE listed SET state = 'failed'"
        " WHERE id = 'p9'",
    )
    found = await verified(ps)
    assert [(one.table, one.key) for one in found.differences] == [
        ("aggregate", "p7"),
        ("flow", "99999"),
        ("listed", "p8"),
        ("listed", "p9"),
    ]
    aggregate, flow, missing, changed = found.differences
    assert aggregate.live is None and aggregate.folded
    assert flow.live and flow.folded is None
    assert missing.live is None
    assert (changed.live, changed.folded) == ("state=failed", "state=processing")


async def test_what_is_no_state_at_all_is_told_too(
    system: Host, ps: Penstock, tmp_path: Path
) -> None:
    tamper(tmp_path, "UPDATE aggregate SET state = x'ff00' WHERE id = 'p1'")
    tamper(tmp_path, "UPDATE aggregate SET state = 12 WHERE id = 'p2'")
    found = await verified(ps)
    assert [(one.key, one.live) for one in found.differences] == [
        ("p1", "state=ff00"),
        ("p2", "state=12"),
    ]


async def test_many_differences_are_counted_and_the_first_ones_told(
    system: Host, ps: Penstock, tmp_path: Path
) -> None:
    tamper(tmp_path, "DELETE FROM listed")
    found = await verified(ps)
    assert (found.count, len(found.differences)) == (1000, 20)


async def test_a_rebuild_makes_good_what_was_changed_by_hand(
    system: Host, ps: Penstock, tmp_path: Path
) -> None:
    tamper(tmp_path, "DELETE FROM listed")
    await ended(ps, "rebuild", Rebuild())
    assert (await verified(ps)).count == 0


async def test_traffic_goes_on_and_is_no_difference(system: Host, ps: Penstock) -> None:
    verifying = asyncio.create_task(verified(ps))
    created = 0
    while not verifying.done():
        await ps.progress.create(f"new-{created}")
        created += 1
    found = verifying.result()
    assert created
    assert (found.count, found.events) == (0, found.sequence)
    assert found.sequence >= EVENTS


async def test_a_number_stored_as_another_kind_is_the_same_state(
    system: Host, ps: Penstock, tmp_path: Path
) -> None:
    state = "replace(state, '\"percent\":3.0', '\"percent\":3')"
    changed = tamper(tmp_path, f"UPDATE aggregate SET state = CAST({state} AS BLOB)")
    assert changed == 1000
    assert (await verified(ps)).count == 0


async def test_what_cannot_be_folded_is_counted_and_no_difference(
    system: Host, ps: Penstock
) -> None:
    bus = ps.session.bus
    await bus.publish_acked(bus.subjects.event("progress", "broken"), b"{}")
    await system.services[0].projector.reached(EVENTS + 1, 60)
    found = await verified(ps)
    assert (found.count, found.events, found.held) == (0, EVENTS, 1)
    info = await bus.api(f"STREAM.INFO.{bus.subjects.stream('dead')}")
    assert info["state"]["messages"] == 1  # of the view's own fold


async def test_what_is_erased_at_that_moment_is_no_difference(system: Host, ps: Penstock) -> None:
    service = system.services[0]
    async with service.projector.paused():
        tombstone = ERASE["progress"](reason="asked for")
        erased = await ps.session.command(tombstone, id="p7")
        verifying = asyncio.create_task(verified(ps))
        async with asyncio.timeout(60):  # it found one, and waits for the view to go on
            while not service.projector._progress:
                await asyncio.sleep(0.01)
    found = await verifying
    assert (found.count, found.sequence, found.aggregates) == (0, erased.sequence, 999)
