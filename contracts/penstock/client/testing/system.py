"""`TestSystem`: a Penstock in memory that runs a worker's handlers by a virtual clock.

Never sleeps, and never decides what a domain decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from penstock.client.jobs import Jobs
from penstock.client.penstock import Penstock
from penstock.client.progress import Progress
from penstock.client.queues import Queues
from penstock.client.schedules import Schedules
from penstock.client.testing.absent import stand_in
from penstock.client.testing.assertions import Assertions
from penstock.client.testing.cache import MemoryCache
from penstock.client.testing.notifications import MemoryNotifications
from penstock.client.testing.ran import Ran
from penstock.client.testing.runner import Runner
from penstock.client.worker.declared import put_all
from penstock.client.worker.registry import Handlers
from penstock.client.workflows import Workflows
from penstock.contracts.errors import Refused
from penstock.contracts.job_state import JobState


class TestSystem(Assertions, Penstock):
    """Use it as `async with TestSystem(worker) as ps`. `start` is the virtual clock's first time;
    `seed` makes the jitter of retries repeatable.

    Of a `Worker` the jobs of its own queues are run, of plain `Handlers` all. There are `ps.jobs`,
    `ps.queues`, `ps.schedules`, `ps.workflows`, `ps.progress`, `ps.cache`, and `ps.notifications`
    but for listening; what is not there raises NotInMemory. Raises StartupError where cronsim is
    not installed.
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
        self._declared = worker.schedules
        self._performed: set[str] = set()

    @property
    def now(self) -> datetime:
        """The virtual time."""
        return self._runner.now

    async def connect(self) -> TestSystem:
        """Begin with nothing enqueued, and with the schedules that are declared."""
        self.session = session = self._runner.session
        self.jobs = Jobs(session)
        self.queues = Queues(session)
        self.schedules = Schedules(session)
        self.progress = Progress(session)
        self.notifications = MemoryNotifications(session, None)
        self.cache = MemoryCache(session)
        self.workflows = Workflows(session)
        self.search = stand_in("ps.search")
        self.exports = stand_in("ps.exports")
        self.changes = stand_in("ps.changes")
        await put_all(session, self._declared)
        return self

    async def close(self) -> None:
        """End the thread of sync handlers, and let go of what answers took."""
        await self.cache.close()
        self._runner.close()

    async def __aenter__(self) -> TestSystem:
        return await self.connect()

    # -- time --------------------------------------------------------------------------------

    async def run_until_idle(self, *, propagate: bool = False) -> Ran:
        """Run what is due now, and what that makes due now; what came of the attempts.

        With `propagate` the first exception that a handler raises is raised here as well.
        """
        return await self._runner.run_to(self.now, propagate=propagate)

    async def advance(self, *, propagate: bool = False, **time: float) -> Ran:
        """Let time pass, as `timedelta` has it (`hours=1`), running all in order as it comes due.

        `propagate` as in `run_until_idle`. Raises ValueError for less than nothing.
        """
        end = self.now + timedelta(**time)
        if end < self.now:
            raise ValueError("Time only goes forward; advance by more than nothing.")
        return await self._runner.run_to(end, propagate=propagate)

    async def drain_queue(
        self, queue: str = "default", *, with_delayed: bool = False, propagate: bool = False
    ) -> Ran:
        """Run the jobs of one queue, and those that they enqueue there; others wait.

        With `with_delayed` also those that wait for a time, retries too: time passes up to theirs.
        It is not `ps.queues.drain`, which closes a queue. `propagate` as in `run_until_idle`.
        Raises ValueError for a queue that is not this system's worker's.
        """
        return await self._runner.drain(queue, with_delayed=with_delayed, propagate=propagate)

    async def sleep(self, seconds: float, result: Any = None) -> Any:
        """Stands for `asyncio.sleep` in a handler under test: virtual time passes, and a timeout
        of the attempt or the job ends it. A handler that takes no virtual time never times out.

        While a handler sleeps no other one runs. Outside of handlers it is as `advance`.
        """
        await self._runner.sleep(seconds)
        return result

    # -- running -----------------------------------------------------------------------------

    async def perform(
        self,
        name: str | Callable[..., Any],
        payload: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Any:
        """What the handler `name` returns, run once and at once; raises what it raises.

        The function itself may be given in place of the name, as everywhere here. `options` are
        those of `ps.jobs.enqueue`, such as `max_attempts=1`. Its job counts as no enqueued one, and
        is not tried again. Raises NotFound if there is no such handler, InvalidMessage for a
        payload that it cannot take, TypeError and the like for a result that JSON cannot carry.
        """
        name = self._runner.handler(self._name(name)).name
        id = f"performed-{len(self._performed) + 1}"
        usual = {"id": id, "on_duplicate": "raise"}
        self._performed.add((await self.jobs.enqueue(name, payload, **{**usual, **options})).id)
        return await self._runner.perform(options.get("id", id))

    async def run_job(self, id: str, *, propagate: bool = False) -> JobState:
        """Run one attempt of an enqueued job now, whatever it waits for; its state behind that.

        `propagate` as in `run_until_idle`. Raises NotFound for a job or a handler that is not
        there, Refused for a job that does not wait.
        """
        job = await self.jobs.get(id)
        if job.state not in ("pending", "retrying"):
            raise Refused(f"The job {id!r} is {job.state}; only one that waits is run.")
        await self._runner.attempt(id, propagate=propagate)
        return await self.jobs.get(id)
