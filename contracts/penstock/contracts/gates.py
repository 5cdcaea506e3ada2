"""Gates that jobs wait at for others of their kind: events and state, version 1. Never any logic.

A gate is the aggregate `gate:<kind>:<key>`: `limit` and `rate` are for jobs with the same key,
`tenant` is for those of one tenant in one queue. No command changes it: places are taken and freed
by what becomes of jobs.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import msgspec

from penstock.contracts.answers import Question
from penstock.contracts.envelope import Time, event
from penstock.contracts.job_state import State
from penstock.contracts.jobs import SERVICE, Message
from penstock.contracts.subjects import MAX_ID

PREFIX = "gate:"
Kind = Literal["limit", "rate", "tenant"]


@event(SERVICE, "place_taken")
class PlaceTaken(Message, frozen=True, kw_only=True):
    """The job may go through. A gate of a rate keeps the last `kept` moments at which one did.

    Written no more: see PlacesChanged.
    """

    job: str
    kept: int = 0


@event(SERVICE, "place_freed")
class PlaceFreed(Message, frozen=True, kw_only=True):
    """The job needs its place no longer. Written no more: see PlacesChanged."""

    job: str


@event(SERVICE, "places_changed")
class PlacesChanged(Message, frozen=True, kw_only=True):
    """Jobs in `freed` need their places no longer, and those in `taken` may go through.

    Of the freed ones `began` jobs began, the last of them at `at`: a rate remembers those that did
    so within `per` seconds.
    """

    freed: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    began: int = 0
    at: Time | None = None
    per: float = 0.0


class Began(msgspec.Struct, frozen=True):
    """So many jobs began at a moment, or shortly before it."""

    at: Time
    count: int


class GateState(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="gate"):
    """A gate: the jobs that have a place there, each since when.

    One of a rate also knows when jobs `began` lately, the oldest first. `moments` are those of jobs
    that went through when every place had events of its own.
    """

    id: str
    holders: dict[str, Time] = {}
    moments: tuple[Time, ...] = ()
    began: tuple[Began, ...] = ()


class WhyJob(Question, frozen=True, kw_only=True, omit_defaults=True):
    """Why a job does not start."""

    id: str


class Why(msgspec.Struct, frozen=True, kw_only=True):
    """Why a job does not start, each thing that it waits for in a sentence of its own.

    `waits_for` names them: `time`, `queue` for one that is paused, `limit`, `rate`, `tenant`, or
    `worker`: one that is free, or any that would take it. Empty for a job that runs or is over.
    """

    id: str
    state: State
    waits_for: tuple[str, ...] = ()
    because: tuple[str, ...] = ()


def gate_id(kind: Kind, key: str) -> str:
    """The aggregate of a gate; a key that is too long for an id stands there as its hash."""
    id = f"{PREFIX}{kind}:{key}"
    if len(id) <= MAX_ID:
        return id
    return f"{PREFIX}{kind}:{hashlib.sha256(key.encode()).hexdigest()}"
