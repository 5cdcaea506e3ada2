"""Dramatiq: results kept, eight threads."""

import sys
import time

import dramatiq
from counting import one_done
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend
from redis import Redis

client = Redis(unix_socket_path=sys.argv[2])
broker = RedisBroker(client=client)
broker.add_middleware(Results(backend=RedisBackend(client=client)))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def noop(n: int) -> int:
    one_done()
    return n


if sys.argv[1] == "enqueue":
    started = time.perf_counter()
    for number in range(int(sys.argv[3])):
        noop.send(number)
    print(int(sys.argv[3]) / (time.perf_counter() - started))
else:
    dramatiq.Worker(broker, worker_threads=8).start()
    time.sleep(3600)
