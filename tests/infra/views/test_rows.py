"""Many rows go in few statements, and none is left out or written twice."""

from __future__ import annotations

from typing import Any

import apsw
import pytest

from penstock.infra.views import rows


@pytest.fixture
def db() -> apsw.Connection:
    made = apsw.Connection(":memory:")
    made.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY, word TEXT)")
    return made


def kept(db: apsw.Connection) -> list[Any]:
    return db.execute("SELECT id, word FROM kept ORDER BY id").fetchall()


@pytest.mark.parametrize("count", [0, 1, 7, 8, 63, 64, 512, 1000])
def test_all_rows_are_written_read_and_deleted(db: apsw.Connection, count: int) -> None:
    written = [(n, f"w{n}") for n in range(count)]
    rows.insert(db, "INTO kept", iter(written))
    assert kept(db) == written
    some = range(0, count, 2)
    found = rows.select(db, "id, word FROM kept WHERE id", some)
    assert sorted(found) == [(n, f"w{n}") for n in some]
    rows.delete(db, "kept WHERE id", some)
    assert kept(db) == [(n, f"w{n}") for n in range(1, count, 2)]


def test_what_is_to_be_done_about_a_row_that_is_there_is_done(db: apsw.Connection) -> None:
    rows.insert(db, "INTO kept", [(n, "old") for n in range(600)])
    rows.insert(db, "OR IGNORE INTO kept", [(n, "ignored") for n in range(590, 610)])
    then = "ON CONFLICT (id) DO UPDATE SET word = excluded.word"
    rows.insert(db, "INTO kept", [(n, "new") for n in range(300, 620)], then=then)
    words = [word for _, word in kept(db)]
    assert words == ["old"] * 300 + ["new"] * 320


def test_statements_are_few(db: apsw.Connection) -> None:
    seen: list[str] = []
    db.set_exec_trace(lambda _, statement, __: not seen.append(statement))  # type: ignore[func-returns-value]
    for count in (1000, 999, 513, 77):
        rows.insert(db, "OR REPLACE INTO kept", [(n, "") for n in range(count)])
    assert len(set(seen)) == len(rows.SIZES)
