"""Which file is opened as the view, whatever a killed process left behind."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from penstock.contracts.progress import ProgressState
from penstock.infra.views.live_view import LiveView, drop
from penstock.infra.views.view import View
from penstock.progress.views import ProgressView


def opened(directory: Path, view: View[ProgressState] | None = None) -> LiveView[ProgressState]:
    return LiveView(directory, "progress", view or ProgressView(), ProgressState)


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


@pytest.fixture
def folded(tmp_path: Path) -> Path:
    """A directory with a view that stands at 7."""
    live = opened(tmp_path)
    live.write((), 7)
    live.close()
    assert files(tmp_path) == ["progress.1.sqlite"]
    return tmp_path


def test_a_view_is_opened_where_it_was_left(folded: Path) -> None:
    live = opened(folded)
    assert live.checkpoint == 7
    live.close()


async def test_one_that_was_being_made_is_never_taken_for_the_view(folded: Path) -> None:
    live = opened(folded)
    half = live.fresh()
    half.write((), 9)
    half.close()
    live.scratch().close()
    live.close()
    assert len(files(folded)) == 3
    again = opened(folded)
    assert again.checkpoint == 7
    assert "progress.2.sqlite" not in files(folded)
    again.close()
    assert files(folded) == ["progress.1.sqlite"]


async def test_of_two_whole_ones_the_newer_is_the_view(folded: Path) -> None:
    live = opened(folded)
    fresh = live.fresh()
    fresh.write((), 8)
    former = live.model
    await live.replace(fresh)
    assert live.checkpoint == 8
    former.close()  # and killed before its file was removed
    live.close()
    again = opened(folded)
    assert again.checkpoint == 8
    again.close()
    assert files(folded) == ["progress.2.sqlite"]


async def test_who_asked_the_former_one_before_it_was_closed_is_answered(folded: Path) -> None:
    live = opened(folded)
    former = live.model
    await live.replace(live.fresh())
    asked = [former.read(former.aggregate, "p") for _ in range(20)]
    await drop(former)
    assert [(await answer)[0] for answer in asked] == [7] * 20
    assert (await live.read(live.aggregate, "p"))[0] == 0
    live.close()


def test_a_changed_schema_is_folded_from_the_start_in_another_file(folded: Path) -> None:
    class Wider(ProgressView):
        version = 2

    live = opened(folded, Wider())
    assert live.checkpoint == 0
    live.close()
    assert files(folded) == ["progress.2.sqlite"]
    live = opened(folded)
    assert live.checkpoint == 0
    live.close()


@pytest.mark.parametrize("damage", [b"not a database", b""])
def test_a_damaged_file_is_made_anew(folded: Path, damage: bytes) -> None:
    (folded / "progress.1.sqlite").write_bytes(damage * 500)
    live = opened(folded)
    assert live.checkpoint == 0
    live.close()
    assert files(folded) == ["progress.2.sqlite"]


def test_another_service_s_files_are_left_alone(folded: Path) -> None:
    other = LiveView(folded, "jobs", ProgressView(), ProgressState)
    other.close()
    apsw.Connection(str(folded / "progressive.1.sqlite")).execute("CREATE TABLE t (a)")
    live = opened(folded)
    live.close()
    assert files(folded) == ["jobs.1.sqlite", "progress.1.sqlite", "progressive.1.sqlite"]
