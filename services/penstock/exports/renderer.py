"""Writes a document to a file in the object store, in a thread. Never touches events.

The whole file is made on disk first, so that memory stays flat and a failure leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import BinaryIO

from penstock.contracts.errors import Unavailable
from penstock.contracts.exports import Document, ExportFile
from penstock.exports.filenames import safe_filename
from penstock.exports.formats import Format
from penstock.infra.objects import Objects

LONGEST = 300.0  # seconds that writing one file may take


class RenderedTooLong(Exception):  # noqa: N818 - errors are named for what happened
    """Writing took more than its time."""


class Renderer:
    """Renders at most `at_once` documents at a time; `directory` takes the files meanwhile.

    A `Part` of the service, to be stopped after whatever calls it.
    """

    def __init__(
        self, objects: Objects, directory: Path, *, at_once: int, longest: float = LONGEST
    ) -> None:
        self._objects = objects
        self._directory = directory
        self._longest = longest
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="render")
        self._closing = Event()

    async def render(self, id: str, document: Document, format: Format) -> ExportFile:
        """The file of the export `id`; a second time it replaces the first with the same.

        Raises InvalidMessage for a document that `format` cannot write, RenderedTooLong, or
        Unavailable when stopped or when the object store is.
        """
        with tempfile.TemporaryFile(dir=self._directory) as file:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._threads, self._write, document, format, file)
            stored = await self._objects.put(f"exports/{id}", file)
        return ExportFile(
            object=stored.name,
            size=stored.size,
            sha256=stored.sha256,
            segments=len(document.segments),
            media_type=format.media_type,
            filename=safe_filename(document.title, format.suffix),
        )

    async def start(self) -> None:
        """See `Part.start`; there is nothing to begin before the first document."""

    async def stop(self) -> None:
        """End what is still being written: it raises Unavailable."""
        self._closing.set()
        await asyncio.to_thread(self._threads.shutdown)

    def problem(self) -> str | None:
        """See `Part.problem`: what goes wrong here concerns one document only."""
        return None

    def _write(self, document: Document, format: Format, file: BinaryIO) -> None:
        for chunk in self._in_time(format.render(document)):
            file.write(chunk)
        file.seek(0)

    def _in_time(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        # A thread cannot be stopped from outside, so it asks for itself between chunks.
        deadline = time.monotonic() + self._longest
        for chunk in chunks:
            if self._closing.is_set():
                raise Unavailable("The service is stopping; the export is finished after restart.")
            if time.monotonic() > deadline:
                raise RenderedTooLong(
                    f"Writing the file took more than {self._longest:g} s; export less at a time."
                )
            yield chunk
