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
from penstock.client.workflow_steps import INDEX, PREVIOUS, Flow, Item, Result, chain, group, step
from penstock.contracts.answers import HistoryEntry
from penstock.contracts.errors import (
    Archived,
    Conflict,
    Duplicate,
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
from penstock.contracts.jobs import Backoff, Limit, Rate, Rules
from penstock.contracts.jobs_bulk import Enqueued, JobSpec
from penstock.contracts.notifications import Inbox, InboxItem, Notification
from penstock.contracts.progress import ProgressState
from penstock.contracts.queues import QueueState
from penstock.contracts.schedules import ScheduleState
from penstock.contracts.search import SearchDocument, SearchHit, SearchHits, SearchQuery
from penstock.contracts.workflow_state import WorkflowState
from penstock.contracts.workflows import Step

__all__ = [
    "INDEX",
    "PREVIOUS",
    "Archived",
    "Backoff",
    "Conflict",
    "Discard",
    "Document",
    "Duplicate",
    "Enqueued",
    "Erased",
    "ExportFailed",
    "Flow",
    "Handlers",
    "HistoryEntry",
    "Inbox",
    "InboxItem",
    "InvalidMessage",
    "Item",
    "JobContext",
    "JobFailed",
    "JobSpec",
    "JobState",
    "LeaseLost",
    "Limit",
    "NotFound",
    "Notification",
    "Penstock",
    "PenstockError",
    "PermanentFailure",
    "ProgressState",
    "QueueState",
    "Rate",
    "Refused",
    "Result",
    "RetryPolicy",
    "Rules",
    "ScheduleState",
    "SearchDocument",
    "SearchHit",
    "SearchHits",
    "SearchQuery",
    "Segment",
    "Snooze",
    "Step",
    "Timeout",
    "TooLarge",
    "Unavailable",
    "Worker",
    "WorkflowState",
    "chain",
    "dead",
    "discard",
    "group",
    "retry",
    "snooze",
    "step",
]
