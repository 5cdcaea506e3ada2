"""What a test asserts of jobs in memory, and what it is shown if that is not so."""

from __future__ import annotations

from datetime import timedelta

import pytest

from penstock.client import Handlers
from penstock.client.testing import TestSystem


async def test_a_failed_assertion_shows_what_was_enqueued_instead() -> None:
    async with TestSystem(Handlers()) as ps:
        with pytest.raises(AssertionError, match="Nothing is enqueued"):
            ps.assert_enqueued("welcome")
        await ps.jobs.enqueue("report", queue="slow")
        await ps.jobs.enqueue("welcome", {"user": "ada"}, delay=60)
        with pytest.raises(AssertionError) as failed:
            ps.assert_enqueued("welcome", payload={"user": "bob"}, delay=60)
        assert str(failed.value).splitlines() == [
            "No job 'welcome' is enqueued with payload={'user': 'bob'}, delay=60. There are:",
            '  welcome  {"user":"ada"}  queue=default  delay=60  pending',
            "  report   {}              queue=slow     delay=0   pending",
        ]


async def test_a_job_is_asserted_by_its_fields_and_by_when_it_is_to_run() -> None:
    async with TestSystem(Handlers()) as ps:
        at = ps.now + timedelta(minutes=5)
        await ps.jobs.enqueue("report", at=at, tags=["daily"], priority=7)
        await ps.advance(hours=1)
        ps.assert_enqueued("report", at=at, delay=300, tags=("daily",), priority=7)
        ps.assert_enqueued("report", delay=timedelta(minutes=5), state="pending")
        ps.assert_not_enqueued("report", at=ps.now)
        ps.assert_not_enqueued(state="completed")
        for wrong in (ps.enqueued, ps.assert_enqueued, ps.assert_not_enqueued):
            with pytest.raises(TypeError, match=r"A job has no 'quue'; it has delay, at, .*queue"):
                wrong("report", quue="mail")


async def test_jobs_are_counted_where_their_number_matters() -> None:
    async with TestSystem(Handlers()) as ps:
        for user in ("ada", "bob"):
            await ps.jobs.enqueue("welcome", {"user": user})
        assert [job.payload["user"] for job in ps.enqueued("welcome")] == ["ada", "bob"]
        assert ps.assert_enqueued("welcome", count=2).payload == {"user": "ada"}
        ps.assert_enqueued("welcome", count=1, payload={"user": "bob"})
        wrong = "2 jobs 'welcome' are enqueued with queue='default', and 3 should be. There are:"
        with pytest.raises(AssertionError, match=wrong):
            ps.assert_enqueued("welcome", count=3, queue="default")
        with pytest.raises(AssertionError, match="1 job 'welcome' is enqueued with payload"):
            ps.assert_enqueued("welcome", count=2, payload={"user": "bob"})


async def test_that_nothing_is_enqueued_is_asserted_without_a_name() -> None:
    async with TestSystem(Handlers()) as ps:
        ps.assert_not_enqueued()
        await ps.jobs.enqueue("welcome", {"user": "ada"})
        with pytest.raises(AssertionError, match=r'(?s)A job is enqueued. There are:.*"ada"'):
            ps.assert_not_enqueued()
