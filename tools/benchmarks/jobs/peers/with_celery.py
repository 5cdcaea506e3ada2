"""Celery: results kept, acknowledged late, ten threads."""

import sys
import time

from celery import Celery
from counting import one_done

app = Celery(
    "bench", broker=f"redis+socket://{sys.argv[2]}", backend=f"redis+socket://{sys.argv[2]}"
)
app.conf.update(task_acks_late=True, worker_prefetch_multiplier=64, worker_hijack_root_logger=False)


@app.task(name="noop")
def noop(n: int) -> int:
    one_done()
    return n


if sys.argv[1] == "enqueue":
    started = time.perf_counter()
    for number in range(int(sys.argv[3])):
        noop.delay(number)
    print(int(sys.argv[3]) / (time.perf_counter() - started))
else:
    arguments = ["worker", "--pool=threads", "--concurrency=10", "--loglevel=error"]
    app.worker_main([*arguments, "--without-gossip", "--without-mingle", "--without-heartbeat"])
