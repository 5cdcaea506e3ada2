"""`TestSystem`: a Penstock in memory that runs a worker's handlers by a virtual clock.

Never sleeps, and never decides what a domain decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock.client.jobs import Jobs
from penstock.client.notifications import Notifications
from penstock.client.penstock import Penstock
from penstock.client.progress import Progress
from penstock.client.queues import Queues
from penstock.client.schedules import Schedules
from penstock.client.testing.absent import stand_in
from penstock.client.testing.asserting import (
    all_sent,
    described,
    has,
    instead,
    queued,
    sent,
)
from penstock.client.testing.cache import MemoryCache
from penstock.client.testing.runner import Runner
from penstock.client.worker.registry import Handlers
from penstock.client.workflows import Workflows
from penstock.contracts.errors import NotFound
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import CancelJob
from penstock.contracts.notifications import channel_of, inbox_of


class TestSystem(Penstock):
    """Use it as `async with TestSystem(worker) as ps`. `start` is the virtual clock's first time;
    `seed` makes the jitter of retries repeatable.

    Of a `Worker` the jobs of its own queues are run, of plain `Handlers` all. There are `ps.jobs`,
    `ps.queues`, `ps.schedules`, `ps.workflows`, `ps.progress`, `ps.cache`, and `ps.notifications`
    for sending; what is not there raises NotInMemory. Raises StartupError where cronsim is not
    installed.
    """

    __test__ = False  # no class of tests for pytest

    def __init__(
        self, worker: Handlers, *, start: datetime = datetime(2026, 1, 1, tzinfo=UTC), seed: int = 0
    ) -> None:
        super().__init__("memory")
        if start.tzinfo is None:
            raise ValueError("`start` has no time zone; give it one, such as tzinfo=UTC.")
        handlers = {handler.name: handler for handler in worker}
        self._runner = Runner(self, handlers, getattr(worker, "queues", None), start, seed)
        self._performed: set[str] = set()

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return self._runner.now

    async def connect(self) -> TestSystem:
        """Begin with nothing enqueued."""
        self.session = session = self._runner.session
        self.jobs = Jobs(session)
        self.queues = Queues(session)
        self.schedules = Schedules(session)
        self.progress = Progress(session)
        self.notifications = Notifications(session, None)
        self.cache = MemoryCache(session)
        self.workflows = Workflows(session)
        self.search = stand_in("ps.search")
        self.exports = stand_in("ps.exports")
        self.changes = stand_in("ps.changes")
        return self

    async def close(self) -> None:
        """End the thread of sync handlers, and let go of what answers took."""
        await self.cache.close()
        self._runner.close()

    async def __aenter__(self) -> TestSystem:
        return await self.connect()

    # -- time --------------------------------------------------------------------------------

    async def run_until_idle(self) -> None:
        """Run what is due now, and what that makes due now."""
        await self._runner.run_to(self.now)

    async def advance(self, **time: float) -> None:
        """Let time pass, as `timedelta` has it (`hours=1`), running all in order as it comes due.

        Raises ValueError for less than nothing.
        """
        end = self.now + timedelta(**time)
        if end < self.now:
            raise ValueError("Time only goes forward; advance by more than nothing.")
        await self._runner.run_to(end)

    async def sleep(self, seconds: float, result: Any = None) -> Any:
        """Stands for `asyncio.sleep` in a handler under test: virtual time passes, and a timeout
        of the attempt or the job ends it. A handler that takes no virtual time never times out.

        While a handler sleeps no other one runs. Outside of handlers it is as `advance`.
        """
        await self._runner.sleep(seconds)
        return result

    # -- running -----------------------------------------------------------------------------

    async def perform(
        self, name: str | Callable[..., Any], payload: Mapping[str, Any] | None = None
    ) -> Any:
        """What the handler `name` returns, run once and at once; raises what it raises.

        The function itself may be given in place of the name, as everywhere here.

        Its job counts as no enqueued one, and is not tried again. Raises NotFound if there is no
        such handler, InvalidMessage for a payload that it cannot take, TypeError and the like for
        a result that JSON cannot carry.
        """
        name = self._name(name)
        if name not in self._runner.handlers:
            raise NotFound(f"There is no handler for {name!r}.")
        id = f"performed-{len(self._performed) + 1}"
        self._performed.add(id)
        await self.jobs.enqueue(name, payload, id=id)
        attempt = await self._runner.attempt(id)
        job = await self.jobs.get(id)
        if not job.is_over:
            self._runner.session.carry_out(CancelJob(reason="It was performed once."), id)
        if attempt.error is not None:
            raise attempt.error
        return job.result

    # -- asserting ---------------------------------------------------------------------------

    def assert_enqueued(self, name: str | Callable[..., Any], **wanted: Any) -> JobState:
        """A job of that name whose fields are as `wanted`; of `payload` a part is enough, and
        `delay` is in seconds or a timedelta. Also one that has run since.

        Raises AssertionError, which shows what was enqueued instead.
        """
        name = self._name(name)
        jobs = queued(self._runner.session.logs["jobs"], self._performed)
        for one in jobs:
            if one.job.name == name and one.fits(wanted):
                return one.job
        like = f" with {described(wanted)}" if wanted else ""
        raise AssertionError(f"No job {name!r} is enqueued{like}. {instead(jobs, name)}")

    def refute_enqueued(self, name: str | Callable[..., Any], **wanted: Any) -> None:
        """Raise AssertionError if there is such a job; see `assert_enqueued`."""
        name = self._name(name)
        jobs = queued(self._runner.session.logs["jobs"], self._performed)
        found = [one for one in jobs if one.job.name == name and one.fits(wanted)]
        if found:
            raise AssertionError(f"A job {name!r} is enqueued. {instead(found, name)}")

    def assert_notified(
        self,
        user: str | None = None,
        content: Mapping[str, Any] | None = None,
        *,
        channel: str | None = None,
    ) -> dict[str, Any]:
        """The content of a notification to `user`, or to the `channel`, or to anyone; a part of
        `content` is enough. Raises AssertionError, which shows what was sent instead.
        """
        to = inbox_of(user) if user else channel_of(channel) if channel else None
        notifications = sent(self._runner.session.logs["notifications"])
        for one in notifications:
            if to in (None, one.to) and has(one.content, content or {}):
                return one.content
        whom, what = f" to {to!r}" if to else "", f" with {dict(content)!r}" if content else ""
        raise AssertionError(f"No notification was sent{whom}{what}. {all_sent(notifications)}")

    def _name(self, job: str | Callable[..., Any]) -> str:
        if isinstance(job, str):
            return job
        handlers = self._runner.handlers.values()
        name = next((handler.name for handler in handlers if handler.function is job), None)
        if name is None:
            raise NotFound(f"{job!r} is no handler of this system's worker.")
        return name
