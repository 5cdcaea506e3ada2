"""`tools/bench jobs`: drain, end to end, enqueueing, gates, latency, workflows, and what is done to
jobs that are delayed, dead or purged.

A bare loop and other systems are measured beside.

Asserts nothing about speed. `--long` measures with a million jobs what may be so many.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

import msgspec

from benchmarks.jobs.delayed import delayed
from benchmarks.jobs.drain import drain
from benchmarks.jobs.end_to_end import end_to_end
from benchmarks.jobs.enqueueing import enqueueing
from benchmarks.jobs.figures import Figure, show
from benchmarks.jobs.gates import gates
from benchmarks.jobs.latency import pickup, takeover
from benchmarks.jobs.peers import peers
from benchmarks.jobs.purging import purging
from benchmarks.jobs.redriving import redriving
from benchmarks.jobs.workflows import workflows

PEERS_JOBS = 10_000
PARTS = (
    *("drain", "e2e", "enqueue", "gates", "pickup", "takeover", "workflows"),
    *("delayed", "redrive", "purge"),
)
NOTES = [
    "One worker process, no-op jobs, full history: queued, started and completed are stored for "
    "each job, the latter two fenced. All processes and the server share this machine.",
    "fsync: what is acknowledged is on the disk. os: the operating system has it.",
    "The bare loop stores the same two events in atomic batches of 400, without leases or tasks.",
]


async def measure(options: argparse.Namespace) -> list[Figure]:
    """Every figure asked for, each on a server and data of its own."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="penstock-bench-") as scratch:
        there, jobs, payload = Path(scratch), options.jobs, options.payload
        for durability in options.durability:
            if "drain" in options.only:
                figures += await drain(there, durability, min(jobs, 100_000), payload)
            if "e2e" in options.only:
                figures += await end_to_end(there, durability, jobs, payload)
            if "enqueue" in options.only:
                figures += await enqueueing(there, durability, min(jobs, 100_000), payload)
            if "gates" in options.only:
                figures += await gates(there, durability, jobs, payload)
            if "pickup" in options.only:
                figures += await pickup(there, durability)
            if "takeover" in options.only:
                figures += await takeover(there, durability)
            if "workflows" in options.only:
                figures += await workflows(there, durability)
            if "delayed" in options.only:
                figures += await delayed(there, durability, jobs)
            if "redrive" in options.only:
                figures += await redriving(there, durability, jobs)
            if "purge" in options.only:
                figures += await purging(there, durability, jobs)
        if options.peers:
            figures += await peers(
                there, options.peers_python, options.redis_server, min(jobs, PEERS_JOBS)
            )
    return figures


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="tools/bench jobs", description=__doc__)
    parser.add_argument("--jobs", type=int, default=30_000, help="jobs to measure with")
    parser.add_argument(
        "--long",
        action="store_true",
        help="a million jobs end to end, waiting for their time, and dead",
    )
    parser.add_argument("--payload", type=int, default=64, help="bytes of a payload")
    parser.add_argument("--durability", nargs="+", choices=("os", "fsync"), default=("os", "fsync"))
    parser.add_argument("--only", nargs="*", choices=PARTS, default=PARTS, help="parts to measure")
    parser.add_argument("--peers", action="store_true", help="other job systems as well")
    parser.add_argument(
        "--peers-python",
        default=sys.executable,
        metavar="PATH",
        help="the Python that has them: celery, dramatiq, saq, arq, taskiq with taskiq-redis and "
        "taskiq-nats; those that it has not are skipped",
    )
    parser.add_argument(
        "--redis-server", default="redis-server", metavar="PATH", help="what they keep jobs in"
    )
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    options = parser.parse_args()
    if options.long:
        options.jobs = 1_000_000
    figures = asyncio.run(measure(options))
    if options.json:
        print(msgspec.json.encode(figures).decode())
    else:
        show(figures, NOTES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
