"""Writes and reads many rows in few statements. Never says which.

A statement for each row would let go of the interpreter's lock and wait for it again each time: a
fold beside a busy event loop would hardly move. One for many rows runs beside the loop.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, TypeVar

import apsw

SIZES = (512, 64, 8, 1)  # rows of one statement: few sizes, so that few have to be compiled

Value = int | float | bytes | str | None
Row = Sequence[Value]
T = TypeVar("T")


def insert(db: apsw.Connection, into: str, rows: Iterable[Row], then: str = "") -> None:
    """`INSERT {into} VALUES` all rows, with what is to be done `then`, such as ON CONFLICT ...

    Rows are written in the order in which they come.
    """
    for some in _together(rows):
        statement = _statement(into, len(some[0]), len(some), then)
        db.execute(statement, tuple(chain.from_iterable(some)))


def delete(db: apsw.Connection, where: str, keys: Iterable[Value]) -> None:
    """`DELETE FROM {where} IN` all keys."""
    for some in _together(keys):
        db.execute(f"DELETE FROM {where} IN ({','.join('?' * len(some))})", some)


def select(db: apsw.Connection, what: str, keys: Iterable[Value]) -> Iterator[tuple[Any, ...]]:
    """The rows of `SELECT {what} IN` all keys."""
    for some in _together(keys):
        yield from db.execute(f"SELECT {what} IN ({','.join('?' * len(some))})", some)


def _together(waiting: Iterable[T]) -> Iterator[Sequence[T]]:
    left = list(waiting)
    at = 0
    for size in SIZES:
        while len(left) - at >= size:
            yield left[at : at + size]
            at += size


@lru_cache(maxsize=64)
def _statement(into: str, columns: int, rows: int, then: str) -> str:
    one = f"({','.join('?' * columns)})"
    return f"INSERT {into} VALUES {','.join([one] * rows)} {then}"
