"""`ps.cache` against a real system: races, lifetimes, concurrency, and a cache that is away."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from penstock.cache.service import build
from penstock.client import Penstock
from penstock.client.cache_reader import APPLIED_WITHIN
from penstock.contracts.cache import MAX_ENTRY, Entry, TagState, entry_stream, entry_subject
from penstock.contracts.errors import InvalidMessage, TooLarge, Unavailable
from penstock.infra.host import Host
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.service import Frame, Service
from penstock.infra.testing import running_system


@pytest.fixture
async def system(nats_url: str, prefix: str, tmp_path: Path) -> AsyncIterator[Host]:
    async with running_system(nats_url, prefix, tmp_path, {"cache": build}) as host:
        yield host


@pytest.fixture
async def ps(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix) as client:
        yield client


@pytest.fixture
async def other(system: Host, nats_url: str, prefix: str) -> AsyncIterator[Penstock]:
    async with Penstock(nats_url, prefix=prefix) as client:
        yield client


class Source:
    """What the cache stands before: `load` counts, and waits until it may go on."""

    def __init__(self, value: Any = "first") -> None:
        self.value = value
        self.runs = 0
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def load(self) -> Any:
        value = self.value
        self.runs += 1
        self.begun.set()
        await self.go_on.wait()
        return value

    async def load_at_once(self) -> Any:
        self.runs += 1
        return self.value


class User(msgspec.Struct):
    id: int
    born: datetime


# -- values and lifetimes ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [None, 0, "", [], {"a": [1, None, 2.5]}, b"\x00", "ü" * 1000])
async def test_a_value_is_read_as_it_was_set(ps: Penstock, value: Any) -> None:
    nothing = object()
    assert await ps.cache.get("key", nothing) is nothing
    assert await ps.cache.set("key", value)
    assert await ps.cache.get("key", nothing) == value


async def test_none_is_a_value(ps: Penstock) -> None:
    source = Source(None)
    for _ in range(3):
        assert await ps.cache.get_or_set("key", source.load_at_once, ttl=60) is None
    assert source.runs == 1


async def test_an_entry_ends_with_its_lifetime_and_without_any_tag(ps: Penstock) -> None:
    await ps.cache.set("short", 1, ttl=0.2)
    await ps.cache.set("second", 1, ttl=timedelta(seconds=1))
    await ps.cache.set("long", 1, ttl=60)
    await ps.cache.set("endless", 1)
    loop = asyncio.get_running_loop()
    ended: dict[str, float] = {}
    start = loop.time()
    while len(ended) < 2 and loop.time() < start + 5:
        for key in ("short", "second"):
            if key not in ended and await ps.cache.get(key) is None:
                ended[key] = loop.time() - start
    assert 0.15 < ended["short"] < 0.9 < ended["second"] < 2
    assert (await ps.cache.get("long"), await ps.cache.get("endless")) == (1, 1)


async def test_what_has_expired_leaves_the_store_too(ps: Penstock) -> None:
    await ps.cache.set("key", 1, ttl=0.1)
    bus = ps.session.bus
    subject = entry_subject(bus.subjects, "key")
    stream = entry_stream(bus.subjects)
    assert await bus.direct_get(stream, {"last_by_subj": subject})
    async with asyncio.timeout(60):
        while await bus.direct_get(stream, {"last_by_subj": subject}):
            await asyncio.sleep(0.01)
    source = Source()
    assert await ps.cache.get_or_set("key", source.load_at_once) == "first"
    assert await ps.cache.get("key") == "first"


async def test_a_deleted_key_is_gone_and_can_be_set_again(ps: Penstock) -> None:
    await ps.cache.set("key", 1)
    await ps.cache.delete("key")
    assert await ps.cache.get("key", "gone") == "gone"
    bus = ps.session.bus
    subject = entry_subject(bus.subjects, "key")
    [marker] = await bus.direct_get(entry_stream(bus.subjects), {"last_by_subj": subject})
    assert (marker.headers["KV-Operation"], marker.headers["Nats-TTL"]) == ("DEL", "3600")
    assert await ps.cache.get_or_set("key", Source(2).load_at_once) == 2
    assert await ps.cache.get("key") == 2


async def test_a_hit_and_a_miss_give_the_same_type(ps: Penstock) -> None:
    user = User(7, datetime(2026, 1, 31, tzinfo=UTC))

    async def load() -> User:
        return user

    assert [await ps.cache.get_or_set("a", load) for _ in range(2)] == [user, user]
    assert await ps.cache.get("a", returns=User) == user
    assert await ps.cache.get("a") == {"id": 7, "born": user.born}
    untyped: list[Any] = [await ps.cache.get_or_set("b", lambda: user) for _ in range(2)]
    assert untyped == [{"id": 7, "born": user.born}] * 2
    assert await ps.cache.get_or_set("b", lambda: user, returns=User) == user


async def test_an_entry_of_another_type_counts_as_none(ps: Penstock) -> None:
    async def load() -> User:
        return User(7, datetime(2026, 1, 31, tzinfo=UTC))

    await ps.cache.get_or_set("key", load)
    assert await ps.cache.get("key", "none", returns=dict[str, Any]) == "none"
    assert await ps.cache.get_or_set("key", lambda: [1], returns=list[int]) == [1]
    await ps.cache.set("loose", {"id": "seven"})
    assert await ps.cache.get("loose", "none", returns=User) == "none"


@pytest.mark.parametrize("another", [True, False])
async def test_what_stands_there_and_is_not_the_keys_own_entry_counts_as_none(
    ps: Penstock, another: bool
) -> None:
    entry = Entry(key="another", asof=0, value=msgspec.Raw(msgspec.msgpack.encode("secret")))
    body = msgspec.msgpack.encode(entry) if another else b"no entry"
    bus = ps.session.bus
    await bus.publish_acked(entry_subject(bus.subjects, "key"), body)
    assert await ps.cache.get("key", "none") == "none"
    assert await ps.cache.get_or_set("key", Source("own").load_at_once) == "own"
    assert await ps.cache.get("key") == "own"


async def test_what_cannot_be_stored_is_refused_with_what_to_do(ps: Penstock) -> None:
    with pytest.raises(InvalidMessage, match=r"'key' cannot be stored.*use plain data"):
        await ps.cache.set("key", object())
    with pytest.raises(InvalidMessage, match="'key' cannot be stored"):
        await ps.cache.get_or_set("key", lambda: 1 << 80)
    with pytest.raises(InvalidMessage, match="is no User"):
        await ps.cache.get_or_set("key", lambda: "text", returns=User)
    with pytest.raises(InvalidMessage, match="cannot be cached"):
        await ps.cache.get("key", returns=Source)
    for ttl in (0, -1, timedelta(0), float("nan"), float("inf")):
        with pytest.raises(InvalidMessage, match="is no lifetime"):
            await ps.cache.set("key", 1, ttl=ttl)
    for key in ("", "k" * 5000, "\ud800"):
        with pytest.raises(InvalidMessage, match="cache key"):
            await ps.cache.get(key)


async def test_a_value_too_large_is_refused_by_set_and_passed_on_by_get_or_set(
    ps: Penstock, caplog: pytest.LogCaptureFixture
) -> None:
    large = "x" * MAX_ENTRY
    with pytest.raises(TooLarge, match="more than 1,000,000"):
        await ps.cache.set("key", large)
    assert await ps.cache.get_or_set("key", lambda: large) == large
    assert "more than 1,000,000" in caplog.text
    assert await ps.cache.get("key") is None
    assert await ps.cache.set("key", "x" * (MAX_ENTRY - 200))


# -- races -------------------------------------------------------------------------------------


async def test_a_value_invalidated_while_it_was_computed_is_no_valid_entry(
    ps: Penstock, other: Penstock
) -> None:
    source = Source("old")
    filling = asyncio.create_task(ps.cache.get_or_set("key", source.load, tags=["t"]))
    await source.begun.wait()
    await other.cache.invalidate(["t"])
    source.go_on.set()
    assert await filling == "old"
    assert ps.cache.stats().stored == 1  # it is there, and proves itself stale
    assert await other.cache.get("key") is None
    assert await ps.cache.get_or_set("key", Source("new").load_at_once, tags=["t"]) == "new"
    assert await other.cache.get("key") == "new"


async def test_a_value_computed_before_its_key_was_deleted_or_set_is_not_stored(
    ps: Penstock, other: Penstock
) -> None:
    for present in (None, "set"):
        source = Source("old")
        filling = asyncio.create_task(ps.cache.get_or_set("key", source.load))
        await source.begun.wait()
        await other.cache.delete("key")
        if present:
            await other.cache.set("key", present)
        source.go_on.set()
        assert await filling == "old"
        assert await ps.cache.get("key") == present


@pytest.mark.parametrize("how", ["invalidate", "change", "delete"])
async def test_who_invalidated_does_not_get_a_value_whose_computing_began_before(
    ps: Penstock, how: str
) -> None:
    old, new = Source("old"), Source("new")
    before = asyncio.create_task(ps.cache.get_or_set("key", old.load, tags=["user:1"]))
    await old.begun.wait()
    if how == "invalidate":
        await ps.cache.invalidate(["user:1"])
    elif how == "change":
        await ps.changes.publish("user", "1")
    else:
        await ps.cache.delete("key")
    after = asyncio.create_task(ps.cache.get_or_set("key", new.load_at_once, tags=["user:1"]))
    looked_up = ps.cache.stats().absent
    async with asyncio.timeout(30):
        while ps.cache.stats().absent == looked_up:
            await asyncio.sleep(0)
    assert new.runs == 0  # one run for a key at a time
    old.go_on.set()
    assert (await before, await after, new.runs) == ("old", "new", 1)
    assert await ps.cache.get("key") == "new"


# -- one run at a time -------------------------------------------------------------------------


async def test_many_callers_share_one_run_and_none_shares_its_value(ps: Penstock) -> None:
    source = Source({"a": []})
    calls = asyncio.gather(
        *(ps.cache.get_or_set("key", source.load, tags=["t"]) for _ in range(100))
    )
    async with asyncio.timeout(60):
        while ps.cache.stats().absent < 100:  # all have looked, and found nothing
            await asyncio.sleep(0.01)
    source.go_on.set()
    values = await calls
    assert source.runs == 1
    values[0]["a"].append("mine")
    assert values[1] == {"a": []}


async def test_different_keys_do_not_wait_for_each_other(ps: Penstock) -> None:
    slow = Source()
    waiting = asyncio.create_task(ps.cache.get_or_set("slow", slow.load))
    await slow.begun.wait()
    assert await ps.cache.get_or_set("quick", Source(1).load_at_once) == 1
    slow.go_on.set()
    await waiting


async def test_a_caller_that_is_cancelled_does_not_take_the_others_with_it(ps: Penstock) -> None:
    source = Source()
    first, second = (asyncio.create_task(ps.cache.get_or_set("key", source.load)) for _ in range(2))
    await source.begun.wait()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    source.go_on.set()
    assert (await second, source.runs) == ("first", 1)


async def test_a_run_goes_on_when_all_its_callers_are_gone(ps: Penstock) -> None:
    source = Source()
    only = asyncio.create_task(ps.cache.get_or_set("key", source.load))
    await source.begun.wait()
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    source.go_on.set()
    assert await ps.cache.get_or_set("key", source.load) == "first"
    assert source.runs == 1


async def test_an_exception_reaches_all_who_wait_and_is_not_kept(ps: Penstock) -> None:
    runs, go_on = 0, asyncio.Event()

    async def fail() -> None:
        nonlocal runs
        runs += 1
        await go_on.wait()
        raise LookupError("no such user")

    calls = [asyncio.create_task(ps.cache.get_or_set("key", fail)) for _ in range(10)]
    for _ in range(5):  # answered behind what these have asked: all of them wait by then
        await ps.cache.get("other")
    go_on.set()
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [str(error) for error in errors] == ["no such user"] * 10
    assert runs == 1
    assert await ps.cache.get_or_set("key", Source(1).load_at_once) == 1


async def test_an_exception_that_nobody_waits_for_any_more_is_no_error_of_its_own(
    ps: Penstock, caplog: pytest.LogCaptureFixture
) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def fail() -> None:
        begun.set()
        await ended.wait()
        raise LookupError("no such user")

    only = asyncio.create_task(ps.cache.get_or_set("key", fail))
    await begun.wait()
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    ended.set()
    assert await ps.cache.get_or_set("other key", Source(1).load_at_once) == 1
    gc.collect()
    assert "never retrieved" not in caplog.text


async def test_closing_ends_the_runs_and_tells_who_waits(
    system: Host, nats_url: str, prefix: str
) -> None:
    source = Source()
    async with Penstock(nats_url, prefix=prefix) as ps:
        waiting = asyncio.create_task(ps.cache.get_or_set("key", source.load))
        await source.begun.wait()
    with pytest.raises(Unavailable, match="closed while a value was computed"):
        await waiting


# -- decorated functions -----------------------------------------------------------------------


async def test_a_decorated_function_runs_once_for_each_call_until_its_tag_is_invalidated(
    ps: Penstock,
) -> None:
    runs: list[str] = []

    @ps.cache.cached("user", ttl=3600, tags=["user", "user:{user_id}"])
    async def get_user(user_id: str, deep: bool = False) -> tuple[str, bool]:
        runs.append(user_id)
        return user_id, deep

    async def call_all() -> None:
        assert await get_user("1") == await get_user(user_id="1") == ("1", False)
        assert await get_user("1", True) == ("1", True)
        assert await get_user("2") == ("2", False)

    await call_all()
    await call_all()
    assert runs == ["1", "1", "2"]
    await ps.cache.invalidate(["user:1"])
    await call_all()
    assert runs == ["1", "1", "2", "1", "1"]
    await ps.changes.publish("user", "3")
    await call_all()
    assert len(runs) == 8
    await ps.cache.delete(get_user.key("2"))
    await call_all()
    assert (len(runs), get_user.__name__) == (9, "get_user")


async def test_a_decorated_function_refuses_arguments_that_identify_nothing(ps: Penstock) -> None:
    @ps.cache.cached("page")
    async def page(request: object) -> str:
        return "page"

    with pytest.raises(InvalidMessage, match="The argument 'request' is a Source"):
        await page(Source())
    with pytest.raises(InvalidMessage, match="names 'id'"):
        ps.cache.cached("page", tags=["user:{id}"])(page)


# -- a cache that is away ----------------------------------------------------------------------


async def test_before_the_client_is_connected_functions_run_uncached() -> None:
    ps = Penstock()

    @ps.cache.cached("double")
    async def double(number: int) -> int:
        return 2 * number

    assert (await double(2), await double(2)) == (4, 4)
    assert ps.cache.stats().unreachable == 2
    assert await ps.cache.set("key", 1) is False
    with pytest.raises(Unavailable, match="not connected"):
        await ps.cache.invalidate(["t"])
    with pytest.raises(Unavailable, match="not connected"):
        await ps.cache.delete("key")


async def test_reads_go_on_without_the_server_and_are_cached_again_with_it(
    fresh_nats: EmbeddedNats, prefix: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source()
    source.go_on.set()
    async with (
        running_system(fresh_nats.url, prefix, tmp_path, {"cache": build}),
        Penstock(fresh_nats.url, prefix=prefix) as ps,
    ):
        assert await ps.cache.get_or_set("key", source.load, tags=["t"]) == "first"
        os.kill(fresh_nats.pid, signal.SIGSTOP)  # it hangs: connected, and silent
        try:
            async with asyncio.timeout(7):
                while not ps.cache.stats().unreachable:  # a stopped process stops a little later
                    assert await ps.cache.get_or_set("key", source.load, tags=["t"]) == "first"
                runs = source.runs
                for _ in range(8):  # sixteen times the patience for one would be too long
                    assert await ps.cache.get_or_set("key", source.load, tags=["t"]) == "first"
                    assert await ps.cache.get("key", "default") == "default"
                assert await ps.cache.set("key", 1, tags=["t"]) is False
        finally:
            os.kill(fresh_nats.pid, signal.SIGCONT)
        assert source.runs == runs + 8
        assert "the cache is passed over" in caplog.text
        async with asyncio.timeout(60):
            while await ps.cache.get("key") is None:
                await asyncio.sleep(0.05)


async def test_own_changes_are_respected_while_the_service_is_away(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    new = Source("new")
    async with Penstock(nats_url, prefix=prefix) as ps:
        async with running_system(nats_url, prefix, tmp_path, {"cache": build}):
            await ps.cache.set("key", "old", tags=["user:1"])
            await ps.cache.set("untouched", "kept", tags=["user:2"])
            await ps.changes.publish("user", "2")
            await ps.cache.set("untouched", "kept", tags=["user:3"])
        await ps.changes.publish("user", "1")
        for _ in range(2):
            value = await ps.cache.get_or_set("key", new.load_at_once, tags=["user:1"])
            assert value == "new"
        assert await ps.cache.get("untouched") == "kept"
        assert new.runs == 2
        async with running_system(nats_url, prefix, tmp_path, {"cache": build}):
            async with asyncio.timeout(60):
                while ps.cache.stats().hits < 3:
                    await ps.cache.get_or_set("key", new.load_at_once, tags=["user:1"])


async def test_a_run_that_began_before_an_own_change_is_not_shared_though_it_is_not_applied(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    old, new = Source("old"), Source("new")
    async with Penstock(nats_url, prefix=prefix) as ps:
        async with running_system(nats_url, prefix, tmp_path, {"cache": build}):
            assert await ps.cache.get("key") is None  # provisioned
        before = asyncio.create_task(ps.cache.get_or_set("key", old.load, tags=["user:1"]))
        await old.begun.wait()
        await ps.changes.publish("user", "1")
        after = asyncio.create_task(ps.cache.get_or_set("key", new.load_at_once, tags=["user:1"]))
        async with asyncio.timeout(30):
            while ps.cache.stats().absent < 3:
                await asyncio.sleep(0)
        old.go_on.set()
        assert (await before, await after) == ("old", "new")


def build_without_changes(frame: Frame) -> Service[TagState]:
    """A cache service that is up and applies no changes: far behind, as seen from outside."""
    service = build(frame)
    service.parts.clear()
    return service


async def test_an_own_change_that_is_not_applied_is_waited_for_only_once(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    async with (
        running_system(nats_url, prefix, tmp_path, {"cache": build_without_changes}),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        await ps.cache.set("key", "old", tags=["user:1"])
        await ps.changes.publish("user", "1")
        begun = loop.time()
        assert await ps.cache.get("key") is None
        waited = loop.time()
        assert await ps.cache.get("key") is None
        assert waited - begun > APPLIED_WITHIN / 2 > loop.time() - waited
