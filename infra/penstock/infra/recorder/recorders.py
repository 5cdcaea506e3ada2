"""The library's synchronous recorders over a JetStream stream; any thread may call them.

Errors are the library's own, as its applications expect. Never holds an event of its own.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Coroutine, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import contextmanager
from typing import Any, TypeVar

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    Notification,
    OperationalError,
    PersistenceError,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Subscription,
    Tracking,
    TrackingRecorder,
)

from penstock.contracts.errors import InvalidMessage, PenstockError, TooLarge, Unavailable
from penstock.infra.follower import Followed, Follower
from penstock.infra.recorder.layout import Id
from penstock.infra.recorder.loop_thread import LoopThread
from penstock.infra.recorder.stored_events import StoredEvents

T = TypeVar("T")


class _Recorder:
    """What all four share: the stream, and the thread that serves it."""

    def __init__(self, thread: LoopThread, events: StoredEvents) -> None:
        super().__init__()
        self.thread = thread
        self.events = events

    def _run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        with library_errors():
            return self.thread.run(coroutine)


class JetStreamAggregateRecorder(_Recorder, AggregateRecorder):
    """Events of aggregates, or snapshots, by version."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Record all or nothing. Raises IntegrityError for a version that is recorded already."""
        self._run(self.events.insert(stored_events))
        return None

    def select_events(
        self,
        originator_id: Id,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of one aggregate, with versions beyond `gt` and up to `lte`."""
        return self._run(self.events.select(originator_id, gt=gt, lte=lte, desc=desc, limit=limit))


class JetStreamApplicationRecorder(JetStreamAggregateRecorder, ApplicationRecorder):
    """The same, and all of them in one order; a notification's id is its stream sequence."""

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Record all or nothing; the ids of the notifications."""
        return self._run(self.events.insert(stored_events))

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """At most `limit` notifications from `start` (or behind it) to `stop`."""
        first = 1 if start is None else max(1, start if inclusive_of_start else start + 1)
        return self._run(self.events.notifications(first, limit, stop, topics))

    def max_notification_id(self) -> int | None:
        """The id of the last notification, or None."""
        return self._run(self.events.last_sequence())

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> JetStreamSubscription:
        """All notifications beyond `gt`, and then each as it comes."""
        return JetStreamSubscription(self, gt, topics)


class JetStreamTrackingRecorder(_Recorder, TrackingRecorder):
    """How far the applications upstream have been followed."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Record a position. Raises IntegrityError if it is not beyond the last one."""
        self._run(self.events.insert([], tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The last position recorded, or None."""
        return self._run(self.events.tracked(application_name))


class JetStreamProcessRecorder(
    JetStreamTrackingRecorder, JetStreamApplicationRecorder, ProcessRecorder
):
    """Events together with the position upstream that they come from, all or nothing.

    The positions stand in the same stream, so the ids of the notifications have gaps.
    """

    def insert_events(
        self, stored_events: Sequence[StoredEvent], **kwargs: Any
    ) -> Sequence[int] | None:
        """Record events and, if given, `tracking`; the ids of the notifications."""
        return self._run(self.events.insert(stored_events, kwargs.get("tracking")))


class JetStreamSubscription(Subscription[JetStreamApplicationRecorder]):
    """Notifications in order; the next one is waited for until `stop`, by any thread."""

    def __init__(
        self, recorder: JetStreamApplicationRecorder, gt: int | None, topics: Sequence[str]
    ) -> None:
        super().__init__(recorder=recorder, gt=gt, topics=topics)
        self._follower: Follower = recorder.events.follower(gt or 0)
        self._ready: deque[Notification] = deque()
        self._batch: Future[list[Followed]] | None = None
        self._lock = threading.Lock()

    def __next__(self) -> Notification:
        """The next notification; StopIteration after `stop`."""
        while not self._has_been_stopped:
            if self._ready:
                return self._ready.popleft()
            notifications = map(self._recorder.events.layout.notification, self._wait())
            self._ready.extend(
                n for n in notifications if not self._topics or n.topic in self._topics
            )
        raise StopIteration

    def stop(self) -> None:
        """End the iteration, also one that waits."""
        with self._lock:
            first, self._has_been_stopped = not self._has_been_stopped, True
            if self._batch:
                self._batch.cancel()
        if first:
            self._recorder.thread.run(self._follower.close())

    def _wait(self) -> Sequence[Followed]:
        with self._lock:
            if self._has_been_stopped:
                return ()
            self._batch = self._recorder.thread.submit(self._follower.batch())
        try:
            with library_errors():
                return self._batch.result()
        except CancelledError:
            return ()


@contextmanager
def library_errors() -> Iterator[None]:
    """Our errors as the library's: its callers know no others."""
    try:
        yield
    except Unavailable as error:
        raise OperationalError(str(error)) from error
    except TooLarge as error:
        raise DataError(str(error)) from error
    except InvalidMessage as error:
        raise ProgrammingError(str(error)) from error
    except PenstockError as error:
        raise PersistenceError(str(error)) from error
