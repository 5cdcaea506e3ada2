"""The views of all kinds of aggregates as one, and every question about them. Never decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import apsw

from penstock.contracts.gates import GateState
from penstock.contracts.job_state import JobState
from penstock.contracts.job_tally import TallyState
from penstock.contracts.queues import QueueState
from penstock.contracts.schedules import ScheduleState
from penstock.contracts.workflow_state import WorkflowState
from penstock.infra.queries import Query
from penstock.infra.views.comparison import Compared, ordinary_tables
from penstock.infra.views.view import Ended, Folded, View
from penstock.jobs import (
    dead_jobs,
    gate_view,
    job_counts,
    job_lists,
    job_metrics,
    job_view,
    queue_view,
    schedule_view,
    stats,
    tally_view,
    workflow_view,
)
from penstock.jobs.domain import State


class JobsView(View[State]):
    """Hands each event to the view of its aggregate's kind, by the type of the state."""

    def __init__(self) -> None:
        self._by_state: Mapping[type, View[Any]] = {
            JobState: gate_view.GatedJobView(job_view.JobView()),
            ScheduleState: schedule_view.ScheduleView(),
            WorkflowState: workflow_view.WorkflowView(),
            QueueState: queue_view.QueueView(),
            GateState: gate_view.GateView(),
            TallyState: tally_view.TallyView(),
        }
        self.schema = "".join(view.schema for view in self._by_state.values())

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[State]]) -> None:
        """See View.fold."""
        for state, view in self._by_state.items():
            if own := [one for one in folded if type(one.state) is state]:
                view.fold(db, own)

    def end(self, db: apsw.Connection, ended: Sequence[Ended]) -> None:
        """See View.end."""
        for view in self._by_state.values():
            view.end(db, ended)

    def compared(self, db: apsw.Connection) -> list[Compared]:
        """See View.compared; what is counted of jobs that are gone depends on when it was."""
        return [*ordinary_tables(db, but=job_counts.TABLES), *job_counts.COMPARED]

    def release(self, db: apsw.Connection) -> None:
        """See View.release."""
        for view in self._by_state.values():
            view.release(db)


QUERIES: list[Query[Any]] = [
    *job_lists.QUERIES,
    *job_metrics.QUERIES,
    *dead_jobs.QUERIES,
    *stats.QUERIES,
    *schedule_view.QUERIES,
    *workflow_view.QUERIES,
    *queue_view.QUERIES,
]
