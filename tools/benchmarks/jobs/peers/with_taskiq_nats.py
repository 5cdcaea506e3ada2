"""Taskiq with NATS JetStream: no results."""

import asyncio
import sys

from running_taskiq import run
from taskiq_nats import PullBasedJetStreamBroker

broker = PullBasedJetStreamBroker(sys.argv[2], stream_name="bench", durable="bench")
asyncio.run(run(broker))
