"""A Taskiq broker at work, whatever it keeps its jobs in: a hundred jobs at a time."""

import sys
from typing import Any

from counting import all_enqueued, one_done
from taskiq.api import run_receiver_task


async def run(broker: Any) -> None:
    """Enqueue or work, as the command line says."""

    @broker.task(task_name="noop")
    async def noop(n: int) -> int:
        one_done()
        return n

    if sys.argv[1] == "enqueue":
        await broker.startup()
        print(await all_enqueued(noop.kiq))
        await broker.shutdown()
    else:
        await run_receiver_task(broker, max_async_tasks=100, run_startup=True)
