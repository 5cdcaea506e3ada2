"""The Python SDK: everything an application needs to use Penstock."""

from penstock.client.penstock import Penstock
from penstock.client.worker.context import JobContext
from penstock.client.worker.policy import (
    Discard,
    PermanentFailure,
    RetryPolicy,
    Snooze,
    dead,
    discard,
    retry,
    snooze,
)
from penstock.client.worker.registry import Handlers
from penstock.client.worker.worker import Worker
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.errors import (
    Archived,
    Conflict,
    Erased,
    ExportFailed,
    InvalidMessage,
    JobFailed,
    LeaseLost,
    NotFound,
    PenstockError,
    Refused,
    Timeout,
    TooLarge,
    Unavailable,
)
from penstock.contracts.exports import Document, Segment
from penstock.contracts.job_state import JobState
from penstock.contracts.jobs import Backoff
from penstock.contracts.jobs_bulk import Enqueued, JobSpec
from penstock.contracts.notifications import Inbox, InboxItem, Notification
from penstock.contracts.progress import ProgressState
from penstock.contracts.schedules import ScheduleState
from penstock.contracts.search import SearchDocument, SearchHit, SearchHits, SearchQuery

__all__ = [
    "Archived",
    "Backoff",
    "Conflict",
    "Discard",
    "Document",
    "Enqueued",
    "Erased",
    "ExportFailed",
    "Handlers",
    "HistoryEntry",
    "Inbox",
    "InboxItem",
    "InvalidMessage",
    "JobContext",
    "JobFailed",
    "JobSpec",
    "JobState",
    "LeaseLost",
    "NotFound",
    "Notification",
    "Penstock",
    "PenstockError",
    "PermanentFailure",
    "ProgressState",
    "Refused",
    "RetryPolicy",
    "ScheduleState",
    "SearchDocument",
    "SearchHit",
    "SearchHits",
    "SearchQuery",
    "Segment",
    "Snooze",
    "Timeout",
    "TooLarge",
    "Unavailable",
    "Worker",
    "dead",
    "discard",
    "retry",
    "snooze",
]
