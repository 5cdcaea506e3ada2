"""Compares two databases of one schema row by row. Never writes, and holds few rows at a time."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, groupby, zip_longest
from operator import eq, itemgetter
from typing import Any

import apsw
import msgspec
from apsw.ext import query_info

from penstock.contracts.views import Difference

SHOWN = 160  # characters of a value
BEFORE = 40  # of them before the first that differs

Value = int | float | bytes | str | None
Row = tuple[Value, ...]
Key = tuple[tuple[Any, ...], ...]


class Compared(msgspec.Struct, frozen=True):
    """What is compared: the rows of `select`, which orders them by its first `keys` columns.

    `same` tells of two unequal rows with one key whether they mean the same.
    """

    table: str
    select: str
    keys: int = 1
    same: Callable[[Row, Row], bool] = eq


def ordinary_tables(db: apsw.Connection, *, but: Sequence[str] = ()) -> list[Compared]:
    """Every table whole, but virtual ones, what is behind these, and `but`."""
    names: str = db.execute(
        "SELECT json_group_array(name) FROM pragma_table_list WHERE schema = 'main'"
        " AND type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\'"
    ).get
    tables = sorted(msgspec.json.decode(names, type=list[str]))
    return [_whole(db, table) for table in tables if table not in but]


def _whole(db: apsw.Connection, table: str) -> Compared:
    columns = db.execute("SELECT name, pk FROM pragma_table_info(?)", (table,)).fetchall()
    keys = sorted((pk, name) for name, pk in columns if pk)
    key = [name for _, name in keys] or [name for name, _ in columns]
    rest = [name for name, _ in columns if name not in key]
    listed = ", ".join(f'"{name}"' for name in (*key, *rest))
    order = ", ".join(map(str, range(1, len(key) + 1)))
    return Compared(table, f'SELECT {listed} FROM "{table}" ORDER BY {order}', len(key))


def differences(
    live: apsw.Connection, folded: apsw.Connection, compared: Sequence[Compared]
) -> Iterator[Difference]:
    """Every row that one has and the other has not, or has otherwise."""
    return chain.from_iterable(_of(live, folded, one) for one in compared)


def _of(live: apsw.Connection, folded: apsw.Connection, what: Compared) -> Iterator[Difference]:
    columns = [name for name, _ in query_info(live, what.select).description]
    for key, rows in groupby(_merged(live, folded, what), key=itemgetter(0)):
        sides: tuple[list[Row], list[Row]] = ([], [])
        for _, side, row in rows:
            sides[side].append(row)
        shown = ", ".join(_text(part[-1]) for part in key)
        for one, other in zip_longest(*sides):
            if one is None or other is None or not (one == other or what.same(one, other)):
                yield _difference(what.table, shown, columns, one, other)


def _merged(
    live: apsw.Connection, folded: apsw.Connection, what: Compared
) -> Iterator[tuple[Key, int, Row]]:
    def keyed(db: apsw.Connection, side: int) -> Iterator[tuple[Key, int, Row]]:
        for row in db.execute(what.select):
            yield tuple(map(_ordered, row[: what.keys])), side, row

    return heapq.merge(keyed(live, 0), keyed(folded, 1), key=itemgetter(0, 1))


def _ordered(value: Value) -> tuple[Any, ...]:
    """As SQLite orders values of several types: https://sqlite.org/datatype3.html#comparisons."""
    match value:
        case None:
            return (0, "NULL")
        case int() | float():
            return (1, value)
        case str():
            return (2, value)
        case _:
            return (3, bytes(value))


def _difference(
    table: str, key: str, columns: Sequence[str], live: Row | None, folded: Row | None
) -> Difference:
    here, there = [], []
    for at, column in enumerate(columns):
        one = _text(live[at]) if live else ""
        other = _text(folded[at]) if folded else ""
        if one != other:
            start = _first_shown(one, other) if live and folded else 0
            here.append(f"{column}={_cut(one, start)}")
            there.append(f"{column}={_cut(other, start)}")
    return Difference(
        table=table,
        key=key,
        live=" ".join(here) if live else None,
        folded=" ".join(there) if folded else None,
    )


def _text(value: Value) -> str:
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.hex()


def _first_shown(one: str, other: str) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    common = next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
    return max(0, common - BEFORE)


def _cut(text: str, start: int) -> str:
    end = start + SHOWN
    return f"{'…' if start else ''}{text[start:end]}{'…' if end < len(text) else ''}"
