"""The judge of the fault tests finds each kind of fault in a log that is doctored to have it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf
from pathlib import Path

import apsw
import msgspec
import pytest
from msgspec.structs import replace

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import wrap
from penstock.contracts.errors import NotFound, PenstockError, Refused
from penstock.contracts.progress import (
    CompleteProgress,
    CreateProgress,
    ProgressCompleted,
    ProgressCreated,
    ProgressUpdated,
    UpdateProgress,
)
from penstock.infra.event_log import Recorded
from support.faults.checker import DeadLetter, Violation, check, unfinished
from support.faults.domains import states
from support.faults.ledger import Answer, Sent
from support.faults.views import clean_fold, compare, read_view

ID = "file-1"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
UPDATE = UpdateProgress(percent=40.0)


def event(sequence: int, version: int, by: str, data: msgspec.Struct, number: int = 1) -> Recorded:
    envelope = wrap(
        data,
        id=f"{by}:{number}",
        subject=ID,
        time=NOW + timedelta(seconds=sequence),
        correlationid=by,
        causationid=by,
        version=version,
    )
    return Recorded(sequence, envelope)


CREATED = event(3, 1, "c1", ProgressCreated())
UPDATED = event(5, 2, "c2", ProgressUpdated(percent=40.0))
COMPLETED = event(8, 3, "c3", ProgressCompleted())
LOG = [CREATED, UPDATED, COMPLETED]


def told(at: int, log: list[Recorded] | None = None) -> Outcome:
    """The right answer once the log holds `at` events."""
    records = (LOG if log is None else log)[:at]
    state = msgspec.Raw(msgspec.json.encode(states("progress", records)[-1]))
    return Outcome(id="", sequence=records[-1].sequence if records else 0, data=state)


def refusal(error: PenstockError) -> Outcome:
    return Outcome(id="", problem=error.problem())


def sent(id: str, command: msgspec.Struct, sent: float, *outcomes: Outcome) -> Sent:
    """A command sent at a second and answered half a second later."""
    answers = [Answer(sent + 0.5 + n, outcome) for n, outcome in enumerate(outcomes)]
    return Sent(
        service="progress", aggregate=ID, command=command, id=id, sent=sent, answers=answers
    )


def ledger() -> list[Sent]:
    return [
        sent("c1", CreateProgress(), 10, told(1)),
        sent("c2", UPDATE, 20, told(2), told(2)),
        sent("c3", CompleteProgress(), 30, told(3)),
        sent("c4", CompleteProgress(), 40, told(3)),  # said twice: no event
        sent("c5", UPDATE, 50, refusal(over())),
    ]


def over() -> Refused:
    return Refused(f"The progress {ID!r} is completed already; nothing more can happen to it.")


def posted(id: str, command: msgspec.Struct, at: float) -> Sent:
    return Sent(
        service="progress", aggregate=ID, command=command, id=id, sent=at, accepted=at + 0.5
    )


def found(entries: list[Sent], log: list[Recorded], dead: tuple[DeadLetter, ...] = ()) -> list[str]:
    return sorted({violation.kind for violation in check(entries, {"progress": log}, dead)})


def renumbered(records: list[Recorded]) -> list[Recorded]:
    """The records with the versions of their places, so that only what is meant is wrong."""
    return [
        Recorded(record.sequence, replace(record.event, version=version))
        for version, record in enumerate(records, 1)
    ]


def test_a_log_that_tells_what_was_acknowledged_is_in_order() -> None:
    assert found(ledger(), LOG) == []


def test_an_acknowledged_event_that_is_missing_is_lost() -> None:
    entries = ledger()[:2]
    assert found(entries, LOG[:1]) == ["lost"]
    assert found(ledger()[:1], []) == ["lost"]


def test_a_missing_event_in_the_middle_is_a_gap_too() -> None:
    assert "gap" in found(ledger()[:3], [CREATED, COMPLETED])


def test_an_effect_stored_twice_under_one_id_is_doubled() -> None:
    again = event(9, 4, "c2", ProgressUpdated(percent=40.0))
    log = [CREATED, UPDATED, again]
    assert "doubled" in found(ledger()[:2], log)


@pytest.mark.parametrize("place", [2, 3])
def test_an_effect_stored_twice_under_other_ids_is_doubled(place: int) -> None:
    again = event(6, 3, "c2", ProgressUpdated(percent=40.0), number=2)
    other = event(7, 3, "c9", ProgressUpdated(percent=41.0))
    log = [CREATED, UPDATED, other] if place == 3 else [CREATED, UPDATED]
    entries = [*ledger()[:2], sent("c9", UpdateProgress(percent=41.0), 25)]
    later = replace(again, sequence=7 + place)
    assert "doubled" in found(entries, renumbered([*log, later]))


def test_an_order_other_than_the_clients_is_reordered() -> None:
    first = event(5, 2, "c3", ProgressUpdated(percent=41.0))
    second = event(8, 3, "c2", ProgressUpdated(percent=40.0))
    log = [CREATED, first, second]
    entries = [
        sent("c1", CreateProgress(), 10, told(1, log)),
        sent("c2", UPDATE, 20, told(3, log)),
        sent("c3", UpdateProgress(percent=41.0), 30, told(2, log)),
    ]
    assert found(entries, log) == ["reordered"]
    entries[1] = sent("c2", UPDATE, 30.2, told(3, log))  # at the same time as the other
    assert found(entries, log) == []


def test_sequences_that_do_not_increase_are_disordered() -> None:
    swapped = [CREATED, replace(UPDATED, sequence=2), COMPLETED]
    assert "disordered" in found([], swapped)


def test_an_acknowledged_sequence_that_is_another_is_misplaced() -> None:
    entries = ledger()
    entries[1].answers[:] = [Answer(20.5, replace(told(2), sequence=4))]
    assert found(entries, LOG) == ["misplaced"]


def test_an_answer_with_another_state_differs() -> None:
    entries = ledger()
    entries[1].answers[:] = [Answer(20.5, replace(told(1), sequence=5))]
    assert found(entries, LOG) == ["differs"]


def test_two_answers_to_one_command_are_contradicted() -> None:
    entries = ledger()
    entries[4].answers.append(Answer(60, refusal(NotFound("There is none."))))
    assert found(entries, LOG) == ["contradicted"]
    entries = ledger()
    entries[3].answers.append(Answer(60, replace(told(3), sequence=9)))
    assert found(entries, LOG) == ["contradicted"]


def test_a_refused_command_with_an_effect_is_contradicted() -> None:
    entries = ledger()
    entries[1].answers[:] = [Answer(20.5, refusal(over()))]
    assert found(entries, LOG) == ["contradicted"]


def test_a_refusal_that_no_state_of_its_time_gives_is_misdecided() -> None:
    entries = ledger()
    entries.append(sent("c6", UPDATE, 25, refusal(over())))  # before it was completed
    assert found(entries, LOG) == ["misdecided"]
    entries[-1] = sent("c6", UPDATE, 29.9, refusal(over()))  # at the same time as that
    assert found(entries, LOG) == []


def test_a_no_that_comes_from_an_old_state_is_misdecided() -> None:
    stale = refusal(NotFound(f"There is no progress {ID!r}; create it first."))
    assert found([*ledger(), sent("c6", UPDATE, 25, stale)], LOG) == ["misdecided"]


def test_events_that_the_command_does_not_cause_are_misdecided() -> None:
    log = [CREATED, event(5, 2, "c2", ProgressCompleted())]
    assert "misdecided" in found([ledger()[0], sent("c2", UPDATE, 20)], log)


def test_an_event_that_nobody_asked_for_is_found() -> None:
    assert found([e for e in ledger() if e.id != "c2"], LOG) == ["unasked"]


def test_a_posted_command_without_effect_or_dead_letter_is_lost() -> None:
    entries = [*ledger(), posted("c6", UPDATE, 25)]
    assert found(entries[:2] + entries[-1:], LOG[:2]) == ["lost"]
    letter = DeadLetter("progress", ID, "c6", over().problem())
    assert found([*ledger(), posted("c6", UPDATE, 60)], LOG) == ["lost"]
    assert found([*ledger(), posted("c6", UPDATE, 60)], LOG, (letter,)) == []


def test_a_posted_command_that_changes_nothing_needs_no_effect() -> None:
    assert found([*ledger(), posted("c6", CompleteProgress(), 60)], LOG) == []


def test_a_dead_letter_without_reason_or_of_nobody_is_found() -> None:
    letter = DeadLetter("progress", ID, "c6", over().problem())
    entries = [*ledger()[:2], posted("c6", UPDATE, 25)]
    assert found(entries, LOG[:2], (letter,)) == ["misdecided"]
    assert found(ledger(), LOG, (letter,)) == ["buried"]
    has_its_effect = DeadLetter("progress", ID, "c2", over().problem())
    assert found(ledger(), LOG, (has_its_effect,)) == ["buried"]


def test_what_nobody_was_told_of_may_have_happened_or_not() -> None:
    unknown = sent("c2", UPDATE, 20)
    assert unknown.known == inf
    assert found([ledger()[0], unknown], LOG[:1]) == []
    assert found([ledger()[0], unknown], LOG[:2]) == []


def test_a_job_that_ended_twice_or_never_is_found() -> None:
    def job(sequence: int, version: int, name: str, cause: str | None) -> Recorded:
        raw = msgspec.Raw(b'{"name":"n","attempt":1,"worker":"w","item":1}')
        envelope = replace(CREATED.event, id=f"j{version}", type=f"penstock.jobs.{name}.v1")
        return Recorded(sequence, replace(envelope, version=version, causationid=cause, data=raw))

    log = [job(1, 1, "queued", "c1"), job(2, 2, "completed", "j1"), job(3, 3, "completed", "j2")]
    kinds = {violation.kind for violation in check([], {"jobs": log}, ())}
    assert "doubled" in kinds
    assert [v.kind for v in unfinished({"jobs": log[:1], "exports": []}, set())] == ["unfinished"]
    assert unfinished({"jobs": log[:1], "exports": []}, {ID}) == []
    assert unfinished({"jobs": log[:2], "exports": []}, set()) == []


# -- views -----------------------------------------------------------------------------------


@pytest.fixture
def view(tmp_path: Path) -> Path:
    path = tmp_path / "live.sqlite"
    clean_fold("progress", LOG, path)
    return path


def differences(view: Path, tmp_path: Path, log: list[Recorded] = LOG) -> list[Violation]:
    clean = clean_fold("progress", log, tmp_path / "clean.sqlite")
    return compare("progress", "one", read_view(view), clean)


def test_a_view_of_the_same_events_does_not_differ(view: Path, tmp_path: Path) -> None:
    assert differences(view, tmp_path) == []


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE aggregate SET state = replace(state, 'completed', 'failed')",
        "UPDATE aggregate SET sequence = 5",
        "DELETE FROM aggregate",
        "DELETE FROM listed",
        "UPDATE listed SET state = 'processing'",
        "INSERT INTO listed VALUES ('other', 'pending', '2026-01-01')",
        "DELETE FROM flow WHERE sequence = 5",
    ],
)
def test_a_view_with_a_changed_row_differs(view: Path, tmp_path: Path, change: str) -> None:
    db = apsw.Connection(str(view))
    db.execute(change)
    db.close()
    assert {v.kind for v in differences(view, tmp_path)} == {"differs"}


def test_a_view_that_left_an_event_out_differs(view: Path, tmp_path: Path) -> None:
    more = [*LOG[:1], event(4, 2, "c9", ProgressUpdated(percent=1.0)), *renumbered(LOG)[1:]]
    assert differences(view, tmp_path, more)
