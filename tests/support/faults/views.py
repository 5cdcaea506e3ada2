"""Compares the view of a service's instance with a clean fold of its events. Changes neither."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import apsw

from penstock.cache.views import TagView
from penstock.contracts.cache import TagState
from penstock.contracts.envelope import unwrap
from penstock.contracts.exports import DocumentState, ExportState
from penstock.contracts.job_state import JobState
from penstock.contracts.notifications import FeedState
from penstock.contracts.progress import ProgressState
from penstock.contracts.search import DocumentState as Searchable
from penstock.exports.views import ExportsView
from penstock.infra.event_log import Recorded
from penstock.infra.views.read_model import ReadModel
from penstock.infra.views.view import Folded
from penstock.jobs.views import JobsView
from penstock.notifications.views import InboxView
from penstock.progress.views import ProgressView
from penstock.search.engines.embedding import WordLlamaEmbedder
from penstock.search.views import SearchView
from support.faults.checker import Violation
from support.faults.domains import evolve_of

Tables = dict[str, set[tuple[Any, ...]]]
AT_ONCE = 200  # events in a transaction
_embedder = WordLlamaEmbedder()  # takes half a second to load
_KINDS: dict[str, tuple[Any, Any]] = {
    "cache": (TagView, TagState),
    "exports": (ExportsView, ExportState | DocumentState),
    "jobs": (JobsView, JobState),
    "notifications": (InboxView, FeedState),
    "progress": (ProgressView, ProgressState),
    "search": (lambda: SearchView(_embedder), Searchable),
}
# A document's number depends on what was deleted before: what counts is whose it is.
# How many there are of a state is a row or none where it is 0: that depends on the batches.
_MEANT = {
    "counted": "SELECT * FROM counted WHERE count <> 0",
    "counted_gone": "SELECT * FROM counted_gone WHERE count <> 0",
    "depth": "SELECT * FROM depth WHERE count <> 0",
    "checkpoint": "SELECT sequence FROM checkpoint",
    "indexed_document": "SELECT id, title, content, metadata, sequence FROM indexed_document",
    "indexed_passages": "SELECT id, starts, vectors FROM indexed_passages"
    " JOIN indexed_document ON number = document",
    "indexed_field": "SELECT id, path, kind, value, listed FROM indexed_field"
    " JOIN indexed_document ON number = document",
    "index_change": "SELECT NULL WHERE FALSE",  # for those who were connected
}


def clean_fold(service: str, records: Sequence[Recorded], path: Path) -> Tables:
    """What the view should hold after `records`, folded one by one from nothing."""
    view, state = _KINDS[service]
    model: ReadModel[Any] = ReadModel(path, view(), state)
    evolve, states, left = evolve_of(service), dict[str, Any](), iter(records)
    try:
        while batch := list(islice(left, AT_ONCE)):
            folded = []
            for record in batch:
                id, data = record.event.subject, unwrap(record.event)
                states[id] = evolve(states.get(id), data, record.event)
                folded.append(Folded(record.sequence, record.event, data, states[id]))
            model.write(folded, batch[-1].sequence)
    finally:
        model.close()
    return read_view(path)


def read_view(path: Path) -> Tables:
    """Every ordinary table of a view at one moment, while others write to it."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        db.set_busy_timeout(5000)
        db.execute("BEGIN")
        rows = db.execute(
            "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table'"
            " AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        names = [str(name) for (name,) in rows]
        return {n: set(db.execute(_MEANT.get(n, f'SELECT * FROM "{n}"'))) for n in names}
    finally:
        db.close()


def reached(view: Tables) -> int:
    """The last sequence that a view reflects; -1 while the view is being made."""
    return max((int(sequence) for (sequence,) in view.get("checkpoint", ())), default=-1)


def compare(service: str, instance: str, live: Tables, clean: Tables) -> list[Violation]:
    """Where a view is not what its events give."""
    found = []
    for table in sorted((live.keys() | clean.keys()) - {"checkpoint"}):
        one, other = live.get(table, set()), clean.get(table, set())
        for what, rows in (("has", one - other), ("lacks", other - one)):
            if rows:
                row = min(rows, key=repr)
                text = f"{instance} {what} {len(rows)} rows of {table}, such as {row!r}"
                found.append(Violation("differs", service, str(row[0]), text))
    return found
