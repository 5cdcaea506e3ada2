"""An application's tests without a server: jobs in memory, under a virtual clock.

A fixture for pytest, and a test with it (`app.jobs` is the application's own module)::

    import pytest
    from penstock.client.testing import TestSystem
    from app.jobs import worker

    @pytest.fixture
    async def ps():
        async with TestSystem(worker) as system:
            yield system

    async def test_new_users_are_welcomed_after_an_hour(ps):
        await ps.jobs.enqueue("welcome", {"user": "ada"}, id="w1", delay=3600)
        ps.assert_enqueued("welcome", payload={"user": "ada"}, delay=3600)
        await ps.advance(hours=1)
        assert await ps.jobs.result("w1") == "hello ada"

Handlers run one after another, on the virtual clock, when the test says `run_until_idle()`,
`advance()`, `drain_queue()` or `run_job()`, and at once by `perform()`; sync ones, and those of the
process lane, in one thread. Of what can run at one time the highest priority always goes first,
and jobs that came at one time are listed by their ids.
Time stands still in a handler but for `ps.sleep`: have the application's `sleep` replaced by it to
see timeouts.
"""

from penstock.client.testing.absent import NotInMemory
from penstock.client.testing.ran import Ran
from penstock.client.testing.system import TestSystem

__all__ = ["NotInMemory", "Ran", "TestSystem"]
