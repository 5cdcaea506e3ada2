"""What the aggregates of this service are, kind by kind, and which module decides about which.

Pure. A kind has a prefix that its ids begin with; what begins with no prefix is a job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import msgspec

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import InvalidMessage, Refused
from penstock.contracts.gates import GateState
from penstock.contracts.job_state import JobState
from penstock.contracts.job_tally import PREFIX as TALLIES
from penstock.contracts.job_tally import JobsTallied, TallyState
from penstock.contracts.queues import QueueState
from penstock.contracts.schedules import ScheduleState
from penstock.contracts.workflow_state import WorkflowState
from penstock.infra.deciding.decider import Context
from penstock.jobs import gate, job, job_evolve, queue, schedule, tally, workflow

State = JobState | ScheduleState | WorkflowState | QueueState | GateState | TallyState
FINAL = (*job.FINAL, "deleted")


class Kind(msgspec.Struct, frozen=True):
    """One kind of aggregate: its states, what is asked of it, what happens to it, and by whom."""

    prefix: str
    state: type[msgspec.Struct]
    commands: tuple[type[msgspec.Struct], ...]
    events: tuple[type[msgspec.Struct], ...]
    decide: Callable[[Any, Any, Context], Sequence[msgspec.Struct]]
    evolve: Callable[[Any, Any, Envelope], Any]
    finished: Callable[[Any], str | None] = lambda _: None


JOB = Kind(
    prefix="",
    state=JobState,
    commands=get_args(job.Command),
    events=get_args(job_evolve.Event),
    decide=job.decide,
    evolve=job_evolve.evolve,
    finished=job.finished,
)
SCHEDULE = Kind(
    prefix="schedule:",
    state=ScheduleState,
    commands=get_args(schedule.Command),
    events=get_args(schedule.Event),
    decide=schedule.decide,
    evolve=schedule.evolve,
    finished=schedule.finished,
)
WORKFLOW = Kind(
    prefix="workflow:",
    state=WorkflowState,
    commands=get_args(workflow.Command),
    events=get_args(workflow.Event),
    decide=workflow.decide,
    evolve=workflow.evolve,
    finished=workflow.finished,
)
QUEUE = Kind(
    prefix="queue:",
    state=QueueState,
    commands=get_args(queue.Command),
    events=get_args(queue.Event),
    decide=queue.decide,
    evolve=queue.evolve,
)
GATE = Kind(
    prefix="gate:",
    state=GateState,
    commands=(),
    events=get_args(gate.Event),
    decide=gate.decide,
    evolve=gate.evolve,
)
TALLY = Kind(
    prefix=TALLIES,
    state=TallyState,
    commands=(),
    events=(JobsTallied,),
    decide=tally.decide,
    evolve=tally.evolve,
)
KINDS = (JOB, QUEUE, GATE, SCHEDULE, WORKFLOW, TALLY)
_OF = {message: kind for kind in KINDS for message in (*kind.commands, *kind.events)}
_BY_STATE = {kind.state: kind for kind in KINDS}
PREFIXES = tuple(kind.prefix for kind in KINDS if kind.prefix)


def decide(
    state: State | None, command: msgspec.Struct, context: Context
) -> Sequence[msgspec.Struct]:
    """The events that `command` causes. Raises InvalidMessage, NotFound, Refused or TooLarge."""
    kind = _kind_of(command)
    id = context.command.subject
    if kind.prefix != _prefix(id):
        raise InvalidMessage(f"{id!r} cannot be the id here: {_rule(kind)}.")
    if state is not None and not isinstance(state, kind.state):
        raise Refused(f"{id!r} is something else already; use another id.")
    return kind.decide(state, command, context)


def evolve(state: State | None, event: msgspec.Struct, envelope: Envelope) -> State:
    """The state after `event`."""
    evolved: State = _kind_of(event).evolve(state, event, envelope)
    return evolved


def finished(state: State) -> str | None:
    """The final state it is in, if it is in one."""
    return _BY_STATE[type(state)].finished(state)


def _kind_of(message: msgspec.Struct) -> Kind:
    try:
        return _OF[type(message)]
    except KeyError:
        raise TypeError(f"not a message of jobs: {type(message).__name__}") from None


def _prefix(id: str) -> str:
    if not id.startswith(PREFIXES):  # nearly every one
        return ""
    return next((prefix for prefix in PREFIXES if id.startswith(prefix)), "")


def _rule(kind: Kind) -> str:
    if kind.prefix:
        return f"it has to begin with {kind.prefix!r}"
    return f"{', '.join(PREFIXES)} are the beginnings of other ids"
