"""SAQ: results kept, a hundred jobs at a time."""

import asyncio
import sys

from counting import all_enqueued, one_done
from redis.asyncio import Redis
from saq import Worker
from saq.queue.redis import RedisQueue


async def noop(ctx: object, *, n: int) -> int:
    one_done()
    return n


async def main() -> None:
    queue = RedisQueue(Redis(unix_socket_path=sys.argv[2]))
    if sys.argv[1] == "enqueue":
        print(await all_enqueued(lambda n: queue.enqueue("noop", n=n)))
    else:
        await Worker(queue, functions=[noop], concurrency=100).start()


asyncio.run(main())
