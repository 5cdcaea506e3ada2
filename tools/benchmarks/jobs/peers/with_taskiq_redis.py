"""Taskiq with Redis: results kept."""

import asyncio
import sys

from running_taskiq import run
from taskiq_redis import ListQueueBroker, RedisAsyncResultBackend

url = f"unix://{sys.argv[2]}"
broker = ListQueueBroker(url).with_result_backend(RedisAsyncResultBackend(url))
asyncio.run(run(broker))
