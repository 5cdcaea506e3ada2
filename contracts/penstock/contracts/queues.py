"""Queues of jobs: commands, events, state and questions, version 1. Never any logic.

The queue `media` is the aggregate `queue:media`. A queue that nobody ever said anything about has
no aggregate: it takes jobs and gives them out.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time, command, event
from penstock.contracts.jobs import SERVICE, Key, Message

PREFIX = "queue:"
MAX_TENANTS = 1_000  # that have a weight of their own, in one queue

Weight = Annotated[int, msgspec.Meta(ge=1, le=100)]


@command(SERVICE, "pause_queue")
class PauseQueue(Message, frozen=True, kw_only=True):
    """Let no worker begin a job of the queue until it is resumed. What runs comes to its end."""

    reason: str | None = None


@command(SERVICE, "resume_queue")
class ResumeQueue(Message, frozen=True, kw_only=True):
    """Go on: give jobs out again, and take new ones."""


@command(SERVICE, "drain_queue")
class DrainQueue(Message, frozen=True, kw_only=True):
    """Take no new jobs until the queue is resumed; those that are there are worked off."""

    reason: str | None = None


@command(SERVICE, "purge_queue")
class PurgeQueue(Message, frozen=True, kw_only=True):
    """Cancel every job that waits in the queue now, delayed ones too. What runs goes on."""

    reason: str | None = None


@command(SERVICE, "set_weight")
class SetWeight(Message, frozen=True, kw_only=True):
    """Give a tenant of the queue `weight` turns for each one of a tenant without a weight."""

    tenant: Key
    weight: Weight


@event(SERVICE, "queue_paused")
class QueuePaused(Message, frozen=True, kw_only=True):
    """No worker begins a job of the queue."""

    reason: str | None = None


@event(SERVICE, "queue_resumed")
class QueueResumed(Message, frozen=True, kw_only=True):
    """The queue takes jobs and gives them out."""


@event(SERVICE, "queue_draining")
class QueueDraining(Message, frozen=True, kw_only=True):
    """The queue takes no new jobs."""

    reason: str | None = None


@event(SERVICE, "queue_purged")
class QueuePurged(Message, frozen=True, kw_only=True):
    """What waited in the queue is to be cancelled."""

    reason: str | None = None


@event(SERVICE, "queue_weighed")
class QueueWeighed(Message, frozen=True, kw_only=True):
    """A tenant has another weight."""

    tenant: str
    weight: int


class QueueState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="queue"):
    """A queue about which something was said. `purged` is when it was emptied last.

    `weights` has the tenants that get more than one turn. `reason` is why it is paused or drained.
    """

    id: str
    name: str
    paused: bool = False
    draining: bool = False
    reason: str | None = None
    purged: Time | None = None
    weights: dict[str, int] = {}
    changed: Time


class ListQueues(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Queues by name; `after` is the name of the last one of the page before."""

    limit: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1000
    after: str = ""


def queue_id(name: str) -> str:
    """The aggregate of the queue `name`."""
    return PREFIX + name


def queue_name(id: str) -> str:
    """The name of the queue whose aggregate is `id`."""
    return id.removeprefix(PREFIX)
