"""ARQ: results kept, a hundred jobs at a time."""

import asyncio
import sys

from arq import Worker, create_pool
from arq.connections import RedisSettings
from counting import all_enqueued, one_done


async def noop(ctx: object, n: int) -> int:
    one_done()
    return n


async def main() -> None:
    settings = RedisSettings(unix_socket_path=sys.argv[2])
    if sys.argv[1] == "enqueue":
        pool = await create_pool(settings)
        print(await all_enqueued(lambda n: pool.enqueue_job("noop", n)))
    else:
        worker = Worker(
            functions=[noop],
            redis_settings=settings,
            max_jobs=100,
            poll_delay=0.01,
            handle_signals=False,
        )
        await worker.async_run()


asyncio.run(main())
