"""Limits, rates, tenants and unique keys in memory and on the real system, with one outcome."""

from __future__ import annotations

from functools import partial

import pytest

from penstock.client import Duplicate, JobSpec, JobState, Limit, Rate, Rules
from penstock.jobs.gate import WINDOW
from support.either_system import SOON, Running


async def test_a_job_waits_for_the_one_that_has_the_place_of_its_limit(running: Running) -> None:
    jobs, queues = running.ps.jobs, running.ps.queues
    await queues.pause("other")
    first = await jobs.enqueue("greet", {"user": "ada"}, queue="other", limit="k")
    second = await jobs.enqueue("greet", {"user": "bob"}, limit="k")
    free = await jobs.enqueue("greet", {"user": "eve"}, limit="another")
    assert (await running.over(free.id)).result == "hello eve"
    why = await running.seen(lambda: jobs.why(second.id), lambda why: "limit" in why.waits_for)
    assert why.because == ("1 jobs with the limit 'k' run or are about to, and no more may.",)
    await jobs.cancel(first.id)
    assert (await running.over(second.id)).result == "hello bob"


async def test_a_place_is_free_again_after_each_attempt(running: Running) -> None:
    jobs = running.ps.jobs
    ids = ["hopeless", "flaky", "broken", "useless", "later", "exits"]
    for name in ids:
        await jobs.enqueue(name, id=name, backoff=SOON, max_attempts=2, limit="k", at_most=2)
    states = [job.state for job in await running.all_over(*ids)]
    assert states == ["failed", "completed", "failed", "cancelled", "completed", "failed"]


async def test_of_those_that_wait_the_highest_priority_goes_first(running: Running) -> None:
    jobs = running.ps.jobs
    await running.ps.queues.pause("other")
    await jobs.enqueue("greet", {"user": "ada"}, id="first", queue="other", limit="k")
    for id, priority in (("low", 1), ("high", 9), ("later", 9)):
        await jobs.enqueue("greet", {"user": id}, id=id, priority=priority, limit="k")
    await jobs.cancel("first")
    assert await running.by_start("low", "later", "high") == ["high", "later", "low"]


async def test_no_more_jobs_than_its_rate_allows_begin_within_its_time(running: Running) -> None:
    rate = Rate(key="r", at_most=2, per=0.4)
    for id in "abcde":
        await running.ps.jobs.enqueue("greet", {"user": id}, id=id, rate=rate)
    ended = await running.all_over(*"abcde")
    first = min(job.created for job in ended)
    started = sorted((job.started - first).total_seconds() for job in ended if job.started)
    assert len(started) == 5 and started[2] >= 0.4 and started[4] >= 0.8


async def test_a_flood_of_one_tenant_lets_the_other_through(running: Running) -> None:
    jobs, queues = running.ps.jobs, running.ps.queues
    await queues.pause("default")
    flood = (
        JobSpec(id=f"a{n}", name="greet", payload={"user": "a"}, rules=Rules(tenant="a"))
        for n in range(60)
    )
    assert all([told.problem is None async for told in jobs.enqueue_many(flood)])
    await jobs.enqueue("greet", {"user": "b"}, id="b", tenant="b")
    why = await running.seen(lambda: jobs.why("a59"), lambda why: "tenant" in why.waits_for)
    assert f"{WINDOW} jobs of the tenant 'default/a' wait for a worker before it." in why.because
    await queues.resume("default")
    order = await running.by_start(*(f"a{n}" for n in range(60)), "b")
    assert order.index("b") < 50


async def test_a_tenant_of_more_weight_has_more_jobs_on_their_way(running: Running) -> None:
    jobs, queues = running.ps.jobs, running.ps.queues
    await queues.pause("default")
    weighed = await queues.set_weight("default", "a", 2)
    assert weighed is not None and weighed.weights == {"a": 2}
    specs = [
        JobSpec(id=f"{tenant}{n}", name="greet", payload={"user": "a"}, rules=Rules(tenant=tenant))
        for n in range(40)
        for tenant in "ab"
    ]
    assert all([told.problem is None async for told in jobs.enqueue_many(specs)])
    for tenant, window in (("a", 2 * WINDOW), ("b", WINDOW)):
        waits = f"{tenant}{window}"
        await running.seen(partial(jobs.why, waits), lambda why: "tenant" in why.waits_for)
        held = await jobs.why(f"{tenant}{window - 1}")
        assert "tenant" not in held.waits_for


async def test_a_unique_key_is_its_jobs_until_that_is_over(running: Running) -> None:
    jobs = running.ps.jobs
    first = await jobs.enqueue("greet", {"user": "ada"}, delay=100, unique_key="u")
    assert (await jobs.enqueue("greet", {"user": "bob"}, unique_key="u")).id == first.id
    with pytest.raises(Duplicate, match="has the unique key 'u' until it is over"):
        await jobs.enqueue("greet", {"user": "bob"}, unique_key="u", on_duplicate="raise")
    same = await jobs.enqueue("greet", {"user": "ada"}, id=first.id, unique_key="u")
    assert same.id == first.id
    await jobs.cancel(first.id)
    second = await jobs.enqueue("greet", {"user": "bob"}, unique_key="u")
    assert (await running.over(second.id)).result == "hello bob"
    spec = JobSpec(name="greet", payload={"user": "eve"}, rules=Rules(unique_key="u"), delay=100)
    told = [one async for one in jobs.enqueue_many([spec, spec])]
    assert [one.problem is None for one in told] == [True, False]


async def test_a_unique_key_for_a_period_outlasts_its_job(running: Running) -> None:
    jobs = running.ps.jobs
    first = await jobs.enqueue("greet", {"user": "ada"}, delay=9, unique_key="u", unique_for=3)
    await jobs.cancel(first.id)

    async def again() -> JobState:
        return await jobs.enqueue("greet", {"user": "bob"}, unique_key="u", unique_for=3)

    assert (await again()).id == first.id
    second = await running.seen(again, lambda job: job.id != first.id)
    assert (second.created - first.created).total_seconds() >= 2.9


async def test_a_job_that_is_redriven_after_it_lost_its_key_is_cancelled(running: Running) -> None:
    jobs = running.ps.jobs
    failed = await running.over((await jobs.enqueue("broken", unique_key="u")).id)
    second = await jobs.enqueue("greet", {"user": "bob"}, unique_key="u", delay=100)
    await jobs.redrive(failed.id)
    lost = await running.until(failed.id, lambda job: job.state == "cancelled")
    assert lost.reason == f"The job {second.id!r} has the unique key 'u' until it is over."


async def test_a_scheduled_job_keeps_the_rules_it_is_put_with(running: Running) -> None:
    await running.ps.queues.pause("default")
    rules = Rules(limit=Limit(key="k", at_most=1), tenant="t")
    await running.ps.schedules.put("s", "greet", {"user": "ada"}, cron="@yearly", rules=rules)
    ids = [await running.ps.schedules.trigger("s", command_id=id) for id in ("one", "two")]
    why = await running.seen(
        lambda: running.ps.jobs.why(ids[1]), lambda why: "limit" in why.waits_for
    )
    assert why.waits_for[0] == "queue"
    await running.ps.queues.resume("default")
    ended = await running.all_over(*ids)
    assert [job.rules for job in ended] == [rules, rules]
