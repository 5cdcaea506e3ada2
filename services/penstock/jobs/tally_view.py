"""Counts what jobs count for that are gone from the log. Never decides."""

from __future__ import annotations

from collections.abc import Sequence

import apsw

from penstock.contracts.job_tally import JobsTallied, TallyState
from penstock.infra.views.view import Folded, View
from penstock.jobs import job_counts, job_counts_gone, job_steps
from penstock.jobs.job_moves import Steps


class TallyView(View[TallyState]):
    """Into the tables of the view of jobs, whose schema it needs."""

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[TallyState]]) -> None:
        """See View.fold."""
        for one in folded:
            assert isinstance(one.data, JobsTallied)
            made = int(one.event.time.timestamp())
            job_counts_gone.tallied(db, one.data.counts, one.event.causationid or "", made)
            job_counts.tick(db, one.data.clock)
            job_steps.add(db, _steps(one.data))
        job_counts.thin_out(db)
        job_steps.thin_out(db)


def _steps(tallied: JobsTallied) -> Steps:
    return {(one.queue, one.name, one.letters): sorted(one.sequences) for one in tallied.steps}
