"""One channel of one socket: what the log has behind its position, then what comes, no gap between.

Never buffers: events that come during the replay are read from the log like those before them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from penstock.contracts import push
from penstock.contracts.envelope import unwrap
from penstock.contracts.errors import InvalidMessage, PenstockError
from penstock.notifications.feed_log import Cursor, FeedLog, Past, Unrecoverable
from penstock.notifications.frames import encode, event_message, text_frame
from penstock.notifications.hub import Hub, Topic
from penstock.notifications.outlet import Outlet

log = logging.getLogger(__name__)

LAG = 0.05  # seconds until the log is asked again for what the view has already
LONGEST_LAG = 5.0


class Subscription:
    """A reader of the hub. `begin`, then `run` in a task, and `end` in any case."""

    def __init__(self, hub: Hub, feed_log: FeedLog, outlet: Outlet, feed: str) -> None:
        self.position = 0
        self.is_live = False
        self._hub = hub
        self._log = feed_log
        self._outlet = outlet
        self._feed = feed
        self._task: asyncio.Task[None] | None = None

    async def begin(self, request: push.Subscribe) -> push.Subscribed:
        """Join, and make sure that what follows the position is there. Raises Unrecoverable."""
        if request.epoch not in (None, self._log.epoch):
            raise Unrecoverable("The position is of another life of the stream; begin anew.")
        self._topic = await self._hub.join(self, self._feed, request.ch)
        if request.seq is None:
            # The view may be behind, and what it is yet to fold is not new.
            self.position = max(self._topic.top, await self._log.last(self._feed))
        else:
            self.position = request.seq
        self._cursor = Cursor(self._log, self._feed, self.position)
        asked = request.seq is not None and request.seq != self._topic.top
        self._first: Sequence[Past] = await self._cursor.page() if asked else ()
        return push.Subscribed(
            epoch=self._log.epoch,
            origin=self.position,
            top=max(self._topic.top, self._cursor.position),
            recovered=request.seq is not None,
        )

    def run(self) -> None:
        """Replay, then go live."""
        self._task = asyncio.create_task(self._run())

    def end(self) -> None:
        """Leave; nothing is sent from here on."""
        self._hub.leave(self, self._feed)
        if self._task:
            self._task.cancel()

    def take(self, frames: bytes, last: int) -> None:
        """See Reader.take. There is no gap: `is_live` is set at the topic's top only."""
        self._outlet.write(frames)
        self.position = last

    async def _run(self) -> None:
        try:
            await self._replay(self._topic)
        except ConnectionResetError:
            return  # the client went away; the connection notices for itself
        except PenstockError as error:
            log.warning("%s: the replay broke off: %s", self._feed, error)
            self._outlet.close(push.Close.INSUFFICIENT_STATE, "the replay broke off")
            return
        # No wait between the last look at `top` and here: what the hub gets next follows on.
        self.is_live = True
        live = push.Position(ch=self._topic.channel, seq=self.position)
        self._outlet.write(text_frame(encode(push.Reply(live=live))))

    async def _replay(self, topic: Topic) -> None:
        await self._send(topic, self._first)
        self._first = ()
        waited = 0.0
        while self.position < topic.top:
            found = await self._cursor.page()
            await self._send(topic, found)
            if found:
                waited = 0.0
            elif waited < LONGEST_LAG:  # a replica of the stream may be behind the view
                waited += LAG
                await asyncio.sleep(LAG)
            else:
                raise Unrecoverable(f"The log ends at {self.position} and the view at {topic.top}.")

    async def _send(self, topic: Topic, found: Sequence[Past]) -> None:
        for past in found:
            try:
                data = unwrap(past.event)
            except InvalidMessage:
                continue  # of a newer version: the view has made it a dead letter
            message = event_message(
                topic.channel, past.sequence, self.position, past.event, data, replay=True
            )
            await self._outlet.pace(message)
            self.position = past.sequence
        if found:
            self.position = found[-1].sequence
