"""Which feeds are read over sockets, and the way of each new event to all of their readers.

Fed by the view's listener, so that there is one live source however many sockets there are. Never
reads the log and never waits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from penstock.contracts.notifications import FeedState
from penstock.infra.views.live_view import LiveView
from penstock.infra.views.view import Ended, Folded
from penstock.notifications.frames import event_message, text_frame

CHUNK = 64 * 1024  # bytes written to a socket at a time


class Reader(Protocol):
    """Somebody who reads a feed. `position` is the last sequence they have."""

    position: int
    is_live: bool

    def take(self, frames: bytes, last: int) -> None:
        """Frames of consecutive events, of which the last is at the sequence `last`."""
        ...


class Topic:
    """A feed that somebody reads; `top` is the last of its events that was passed on."""

    def __init__(self, feed: str, channel: str) -> None:
        self.feed = feed
        self.channel = channel
        self.top = 0
        self.readers: set[Reader] = set()


class Hub:
    """All topics of a gateway."""

    def __init__(self, model: LiveView[FeedState]) -> None:
        self._model = model
        self._topics: dict[str, Topic] = {}

    async def join(self, reader: Reader, feed: str, channel: str) -> Topic:
        """Add a reader, who is yet to become live. `Topic.top` is known on return."""
        topic = self._topics.setdefault(feed, Topic(feed, channel))
        topic.readers.add(reader)
        # The view is asked and not the stream: it is what publishes here, so that after its
        # revision nothing is missed, and `top` is the true predecessor of what comes next.
        _, found = await self._model.read(self._model.aggregate, feed)
        topic.top = max(topic.top, found[0] if found else 0)
        return topic

    def leave(self, reader: Reader, feed: str) -> None:
        """Remove a reader; a topic without readers is forgotten."""
        if topic := self._topics.get(feed):
            topic.readers.discard(reader)
            if not topic.readers:
                del self._topics[feed]

    def publish(self, folded: Sequence[Folded[FeedState] | Ended]) -> None:
        """Pass on what the view has just committed."""
        news: dict[Topic, list[tuple[int, bytes]]] = {}
        for f in folded:
            topic = self._topics.get(f.event.subject)
            if topic is not None and f.sequence > topic.top:
                message = event_message(topic.channel, f.sequence, topic.top, f.event, f.data)
                news.setdefault(topic, []).append((f.sequence, text_frame(message)))
                topic.top = f.sequence
        for topic, events in news.items():
            for chunk in _chunks(events):
                _deliver(topic, chunk)


def _deliver(topic: Topic, events: list[tuple[int, bytes]]) -> None:
    first, last = events[0][0], events[-1][0]
    joined = b"".join(frame for _, frame in events)
    for reader in topic.readers:
        if not reader.is_live or reader.position >= last:
            continue
        if reader.position < first:
            reader.take(joined, last)
        else:  # it has read ahead in the log
            reader.take(b"".join(f for seq, f in events if seq > reader.position), last)


def _chunks(events: list[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    chunk: list[tuple[int, bytes]] = []
    size = 0
    for sequence, frame in events:
        if chunk and size + len(frame) > CHUNK:
            yield chunk
            chunk, size = [], 0
        chunk.append((sequence, frame))
        size += len(frame)
    yield chunk
