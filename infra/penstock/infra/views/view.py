"""What a service hands in to have its events folded: its own tables, and what folds into them.

Never opens a database and never commits.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import apsw
import msgspec

from penstock.contracts.envelope import Envelope
from penstock.infra.deciding.aggregate import Tombstone
from penstock.infra.views.comparison import Compared, ordinary_tables

S = TypeVar("S")


class Folded(msgspec.Struct, Generic[S], frozen=True, gc=False):
    """One event after it was folded: `state` is its aggregate's state then."""

    sequence: int
    event: Envelope
    data: msgspec.Struct
    state: S


class Ended(msgspec.Struct, frozen=True):
    """A tombstone: nothing of the aggregate's events before it stays in the view."""

    sequence: int
    event: Envelope
    data: Tombstone


class View(Generic[S]):
    """What a service keeps beside the state of its aggregates; most need not override anything.

    `schema` is the DDL of its own tables; a change of it, or of `version`, folds from the start.
    It serves several read models at a time, one that answers and one that is being rebuilt: what
    it keeps in memory it keeps by connection, until `release`.
    """

    schema = ""
    version = 1

    def fold(self, db: apsw.Connection, folded: Sequence[Folded[S]]) -> None:
        """Write what `folded` means to the own tables, inside the checkpoint's transaction."""

    def end(self, db: apsw.Connection, ended: Sequence[Ended]) -> None:
        """Delete every row about aggregates that ended, in the same transaction; by `forget`.

        To be overridden in its place where it matters how they ended.
        """
        self.forget(db, [one.event.subject for one in ended])

    def forget(self, db: apsw.Connection, ids: Sequence[str]) -> None:
        """Delete every row about these aggregates from the own tables, in the same transaction."""

    def compared(self, db: apsw.Connection) -> list[Compared]:
        """What every fold of the same events has in common: all ordinary tables, row by row.

        To be overridden where a table has what differs by nature, such as a row's number.
        """
        return ordinary_tables(db)

    def release(self, db: apsw.Connection) -> None:
        """Let go of what was kept for a connection.

        It is about to be closed, or what it was writing has been taken back.
        """
