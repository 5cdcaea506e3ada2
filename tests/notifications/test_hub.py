"""What the hub passes on to readers who are ahead of it, behind it, or level."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.contracts.envelope import wrap
from penstock.contracts.notifications import BroadcastSent, FeedState
from penstock.infra.views.live_view import LiveView
from penstock.infra.views.view import Folded
from penstock.notifications.hub import CHUNK, Hub
from penstock.notifications.views import InboxView

FEED = "channel:news"


class Page:
    """A reader that keeps what it gets, one entry for each write."""

    def __init__(self, position: int, *, is_live: bool = True) -> None:
        self.position = position
        self.is_live = is_live
        self.writes: list[bytes] = []

    def take(self, frames: bytes, last: int) -> None:
        self.writes.append(frames)
        self.position = last

    @property
    def chain(self) -> list[tuple[int, int]]:
        """The `prev` and `seq` of each event."""
        found = re.findall(rb'"seq":(\d+),"prev":(\d+)', b"".join(self.writes))
        return [(int(prev), int(seq)) for seq, prev in found]


@pytest.fixture
def model(tmp_path: Path) -> Iterator[LiveView[FeedState]]:
    opened = LiveView(tmp_path, "notifications", InboxView(), FeedState)
    opened.write([folded(4)], 4)
    yield opened
    opened.close()


def folded(sequence: int, text: str = "") -> Folded[FeedState]:
    data = BroadcastSent(id=str(sequence), content={"text": text})
    now = datetime.now(UTC)
    event = wrap(data, id=str(sequence), subject=FEED, time=now, correlationid="f")
    return Folded(sequence, event, data, FeedState(id=FEED))


async def test_each_reader_gets_what_it_does_not_have(model: LiveView[FeedState]) -> None:
    hub = Hub(model)
    level, ahead, done, replaying = Page(4), Page(7), Page(9), Page(2, is_live=False)
    for reader in (level, ahead, done, replaying):
        assert (await hub.join(reader, FEED, "news")).top == 4
    hub.publish([folded(4), folded(6), folded(7), folded(9)])
    assert level.chain == [(4, 6), (6, 7), (7, 9)]
    assert len(level.writes) == 1
    assert ahead.chain == [(7, 9)]
    assert (done.writes, replaying.writes) == ([], [])


async def test_a_burst_is_written_in_chunks_of_whole_frames(model: LiveView[FeedState]) -> None:
    hub, reader = Hub(model), Page(4)
    await hub.join(reader, FEED, "news")
    hub.publish([folded(sequence, "x" * 30_000) for sequence in range(5, 10)])
    assert reader.chain == [(n - 1, n) for n in range(5, 10)]
    assert len(reader.writes) == 3
    assert all(len(write) <= CHUNK for write in reader.writes)


async def test_who_has_left_gets_nothing_more(model: LiveView[FeedState]) -> None:
    hub, gone, here = Hub(model), Page(4), Page(4)
    for reader in (gone, here):
        await hub.join(reader, FEED, "news")
    hub.leave(gone, FEED)
    hub.publish([folded(5)])
    assert (gone.writes, here.chain) == ([], [(4, 5)])
    hub.leave(here, FEED)
    hub.leave(here, FEED)  # twice does no harm
    hub.publish([folded(6)])
    assert here.chain == [(4, 5)]
