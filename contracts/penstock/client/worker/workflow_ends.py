"""Tells workflows of their jobs that end here, of many at a time. Never what a job returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.client.session import Session, caused_by
from penstock.contracts.envelope import Envelope
from penstock.contracts.jobs import JobCancelled, JobCompleted, JobFailed
from penstock.contracts.workflow_state import LONGEST_ERROR, MOST_ENDS, advance_id, told_together
from penstock.contracts.workflows import JobEnded
from penstock.infra.gathering import Gathering
from penstock.infra.sender import Cause

PAUSE = 0.01  # seconds between two commands to one workflow, which takes one after the other
Ended = tuple[JobEnded, Envelope]


class WorkflowEnds:
    """Each end goes with its event, which the command that tells of it is known by."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._ends: Gathering[Ended] = Gathering(self._post, most=MOST_ENDS, pause=PAUSE)

    async def tell(self, workflow: str, told: JobEnded, event: Envelope) -> None:
        """Tell it, with others perhaps; stored when this returns. Raises Unavailable."""
        await self._ends.say(workflow, (told, event))

    async def _post(self, workflow: str, ends: Sequence[Ended]) -> None:
        last = ends[0][1]
        command = told_together([told for told, _ in ends])
        command_id = advance_id([event.id for _, event in ends])
        cause = Cause(correlationid=last.correlationid, event=last, actor=last.actor)
        with caused_by(cause):
            await self._session.post(command, id=workflow, command_id=command_id)


def ended(job: str, end: JobCompleted | JobFailed | JobCancelled) -> JobEnded | None:
    """What there is to tell of an end; None where the result has to be looked at for it."""
    match end:
        case JobCompleted():
            if end.stored is not None:
                return None
            return JobEnded(job=job, how="completed", size=_length(end.result))
        case JobFailed():
            return JobEnded(job=job, how="failed", error=end.error.message[:LONGEST_ERROR])
        case JobCancelled():
            why = end.error.message if end.error else end.reason
            return JobEnded(job=job, how="cancelled", error=why and why[:LONGEST_ERROR])


def _length(result: Any) -> int | None:
    """Of a list that was returned."""
    if isinstance(result, msgspec.Raw):
        raw = bytes(result)
        return len(msgspec.json.decode(raw, type=list[msgspec.Raw])) if raw[:1] == b"[" else None
    return len(result) if isinstance(result, list) else None
