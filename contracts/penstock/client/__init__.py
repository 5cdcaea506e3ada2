"""The Python SDK: everything an application needs to use Penstock."""

from penstock.client.penstock import Penstock
from penstock.client.worker import Worker
from penstock.client.worker_context import JobContext, PermanentFailure
from penstock.contracts.jobs import Backoff

__all__ = ["Backoff", "JobContext", "Penstock", "PermanentFailure", "Worker"]
