"""What a format is: a name, a media type and a writer that streams. Never any one format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isfinite

import msgspec

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.exports import Document, Segment

CHUNK = 64 * 1024  # characters: large enough to be cheap to pass on, small enough to hold


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """One way to write a document down.

    `write` gives the file piece by piece, as text; it may rely on `check`. `timed` says that
    the format cannot do without a start and an end on every segment.
    """

    name: str
    media_type: str
    suffix: str
    write: Callable[[Document], Iterator[str]]
    timed: bool = False

    def check(self, document: Document) -> None:
        """Return if `document` can be rendered, else raise InvalidMessage with the path at fault.

        A document without any text is refused: a file with nothing in it looks like a fault.
        """
        if not any(segment.text.strip() for segment in document.segments):
            raise InvalidMessage(
                "The export would be empty: no segment has text; add one at $.segments.",
                path="$.segments",
            )
        for position, segment in enumerate(document.segments):
            self._check_times(segment, f"$.segments[{position}]")

    def _check_times(self, segment: Segment, path: str) -> None:
        for side, seconds in (("start", segment.start), ("end", segment.end)):
            if seconds is None and self.timed:
                raise InvalidMessage(
                    f"{self.name} needs a start and an end on every segment: set {path}.{side} in"
                    " seconds, or choose a format without times, such as txt.",
                    path=f"{path}.{side}",
                )
            if seconds is not None and not (isfinite(seconds) and seconds >= 0):
                raise InvalidMessage(
                    f"{path}.{side} is {seconds}; give seconds from 0.", path=f"{path}.{side}"
                )
        if segment.start is not None and segment.end is not None and segment.end < segment.start:
            raise InvalidMessage(
                f"{path} ends at {segment.end} s, before it starts at {segment.start} s;"
                " set its end to its start or later.",
                path=f"{path}.end",
            )

    def render(self, document: Document) -> Iterator[bytes]:
        """The file as UTF-8, in chunks of about 64 KiB: memory does not grow with the document.

        Raises InvalidMessage at once, before the first chunk, where `check` would.
        """
        self.check(document)
        return _chunks(self.write(document))


def _chunks(pieces: Iterable[str]) -> Iterator[bytes]:
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= CHUNK:
            yield "".join(held).encode()
            held, size = [], 0
    if held:
        yield "".join(held).encode()
