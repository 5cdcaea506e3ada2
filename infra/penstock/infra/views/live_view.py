"""The read model that answers now, for those who hold it longer than a rebuild takes.

It asks and writes as a ReadModel does, whichever file that is in by now. Never folds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import UnionType
from typing import Concatenate, Generic, ParamSpec, TypeVar

import apsw

from penstock.infra.views.files import ViewFiles, remove
from penstock.infra.views.held import Hold
from penstock.infra.views.read_model import ReadModel, stamp_for
from penstock.infra.views.view import Ended, Folded, View

S = TypeVar("S")
T = TypeVar("T")
P = ParamSpec("P")


class LiveView(Generic[S]):
    """The view of one instance of a service, in `directory`; `model` is the present one."""

    def __init__(
        self,
        directory: Path,
        service: str,
        view: View[S],
        state: type[S] | UnionType,
        *,
        salt: str = "",
    ) -> None:
        self._files = ViewFiles(directory, service)
        self._view = view
        self._state = state
        self._salt = salt
        self.model = ReadModel(
            self._files.present(stamp_for(view, state, salt)), view, state, salt=salt
        )
        self.before_read: Callable[[], Awaitable[object]] = _nothing  # has what has come folded

    def close(self) -> None:
        """See ReadModel.close."""
        self.model.close()

    # -- as the read model does --------------------------------------------------------------

    @property
    def checkpoint(self) -> int:
        """See ReadModel.checkpoint."""
        return self.model.checkpoint

    def states(self, ids: Collection[str]) -> dict[str, S]:
        """See ReadModel.states."""
        return self.model.states(ids)

    def write(self, folded: Sequence[Folded[S] | Ended], sequence: int) -> None:
        """See ReadModel.write."""
        self.model.write(folded, sequence)

    @property
    def writer(self) -> apsw.Connection:
        """See ReadModel.writer."""
        return self.model.writer

    def decode(self, state: bytes) -> S:
        """See ReadModel.decode."""
        return self.model.decode(state)

    async def read(
        self,
        question: Callable[Concatenate[apsw.Connection, P], T],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> tuple[int, T]:
        """See ReadModel.read; what has come is folded before."""
        await self.before_read()
        return await self.model.read(question, *args, **kwargs)

    def aggregate(self, db: apsw.Connection, id: str) -> tuple[int, S] | None:
        """See ReadModel.aggregate."""
        return self.model.aggregate(db, id)

    def known(self, db: apsw.Connection, id: str) -> tuple[tuple[int, S] | None, Hold | None]:
        """See ReadModel.known."""
        return self.model.known(db, id)

    def flow(self, db: apsw.Connection, correlationid: str) -> list[int]:
        """See ReadModel.flow."""
        return self.model.flow(db, correlationid)

    @property
    def path(self) -> Path:
        """The file that it is in now."""
        return self.model.path

    # -- another one -------------------------------------------------------------------------

    def snapshot(self) -> AbstractContextManager[tuple[int, apsw.Connection]]:
        """See ReadModel.snapshot."""
        return self.model.snapshot()

    def fresh(self) -> ReadModel[S]:
        """An empty read model that may come to `replace` this one."""
        return self._make(self._files.following())

    def scratch(self) -> ReadModel[S]:
        """An empty read model to compare with."""
        return self._make(self._files.scratch)

    async def replace(self, fresh: ReadModel[S]) -> None:
        """Answer from `fresh`, also after the next start; the former one is to be dropped.

        No projector may be folding, and `fresh` must have got as far as this one.
        """
        await asyncio.to_thread(fresh.stamp)
        self.model = fresh

    def _make(self, path: Path) -> ReadModel[S]:
        return ReadModel(path, self._view, self._state, salt=self._salt, whole=False)


async def drop(model: ReadModel[S]) -> None:
    """Close a read model that answers nobody any more, and remove its file."""

    def close_and_remove() -> None:
        model.close()
        remove(model.path)

    await asyncio.to_thread(close_and_remove)


async def _nothing() -> None:
    """Nothing gathers before it is folded."""
