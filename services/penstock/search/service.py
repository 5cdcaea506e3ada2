"""Wires search into the frame of a service."""

from __future__ import annotations

import asyncio

from penstock.contracts.search import SERVICE, DocumentState
from penstock.infra.service import Frame, Service
from penstock.search.domain import FINAL, decide, evolve, finished
from penstock.search.engines.embedding import WordLlamaEmbedder
from penstock.search.views import SearchView


def build(frame: Frame) -> Service[DocumentState]:
    """The search service, yet to be started."""
    embedder = WordLlamaEmbedder()
    view = SearchView(embedder)
    service = Service(
        frame,
        SERVICE,
        state=DocumentState,
        decide=decide,
        evolve=evolve,
        finished=finished,
        final=FINAL,
        view=view,
        queries=view.queries(),
        # Vectors of another model are of no use: a change of it folds from the start.
        salt=f"{embedder.name}/{embedder.dimension}",
    )
    service.parts.append(Warming(embedder))
    return service


class Warming:
    """Loads the model while everything else starts, so that no query has to wait for it."""

    def __init__(self, embedder: WordLlamaEmbedder) -> None:
        self._embedder = embedder
        self._loading: asyncio.Future[object] | None = None

    async def start(self) -> None:
        """Begin to load."""
        self._loading = asyncio.ensure_future(asyncio.to_thread(self._embedder.load))

    async def stop(self) -> None:
        """Wait for the loading thread, which cannot be stopped."""
        if self._loading:
            await asyncio.wait((self._loading,))

    def problem(self) -> str | None:
        """Why the model could not be loaded."""
        if self._loading and self._loading.done() and (error := self._loading.exception()):
            return f"its embedding model cannot be loaded: {error}; reinstall penstock[search]"
        return None
