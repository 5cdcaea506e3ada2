"""The recorders over JetStream pass the library's own conformance cases, on a real server.

The cases print their speed and look at `os.environ`, as the library's own tests have it.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from typing import Any, ClassVar
from unittest import TestCase
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    DataError,
    InfrastructureFactoryError,
    IntegrityError,
    OperationalError,
    ProcessRecorder,
    ProgrammingError,
    StoredEvent,
    Tracking,
    TrackingRecorder,
)
from eventsourcing.tests import application as application_cases
from eventsourcing.tests import persistence as cases
from eventsourcing.tests import projection as projection_cases
from eventsourcing.utils import Environment, EnvType, get_topic

from penstock.infra.recorder import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamFactory,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
)
from support.proxy import Proxy

MODULE = "penstock.infra.recorder"


class RememberedFactory(JetStreamFactory):
    """One that is closed after the test: the library's cases leave those of applications open."""

    made: ClassVar[list[JetStreamFactory]] = []

    def __init__(self, env: Environment | EnvType | None) -> None:
        super().__init__(env)
        self.made.append(self)


@pytest.fixture
def environment(nats_url: str, prefix: str) -> Iterator[dict[str, str]]:
    """What the library's applications read, with streams of this test alone."""
    found = {
        "PERSISTENCE_MODULE": get_topic(RememberedFactory),
        "PENSTOCK_NATS_URL": nats_url,
        "PENSTOCK_PREFIX": prefix,
    }
    before = dict(os.environ)
    os.environ.update(found)
    yield found
    # The cases set variables too, and leave them.
    os.environ.clear()
    os.environ.update(before)
    while RememberedFactory.made:
        RememberedFactory.made.pop().close()


@pytest.fixture
def factory(environment: dict[str, str]) -> Iterator[JetStreamFactory]:
    made = JetStreamFactory(Environment("tested", environment))
    yield made
    made.close()


class WithFactory(TestCase):
    """A factory for each case; every recorder has a stream of its own."""

    @pytest.fixture(autouse=True)
    def _environment(self, environment: dict[str, str]) -> None:
        self.environment = environment

    def new_factory(self) -> JetStreamFactory:
        return RememberedFactory(Environment(f"case-{uuid4().hex[:8]}", self.environment))


class TestAggregateRecorder(WithFactory, cases.AggregateRecorderTestCase):
    def create_recorder(self) -> AggregateRecorder:
        return self.new_factory().aggregate_recorder()


class TestApplicationRecorder(WithFactory, cases.ApplicationRecorderTestCase):
    def create_recorder(self) -> ApplicationRecorder:
        return self.new_factory().application_recorder()

    def test_insert_subscribe(self) -> None:
        self.optional_test_insert_subscribe()


class TestTrackingRecorder(WithFactory, cases.TrackingRecorderTestCase):
    def create_recorder(self) -> TrackingRecorder:
        return self.new_factory().tracking_recorder()


class TestProcessRecorder(WithFactory, cases.ProcessRecorderTestCase):
    def create_recorder(self) -> ProcessRecorder:
        return self.new_factory().process_recorder()


class TestNonInterleavingNotificationIDs(WithFactory, cases.NonInterleavingNotificationIDsBaseCase):
    def create_recorder(self) -> ApplicationRecorder:
        return self.new_factory().application_recorder()


class OtherTrackingRecorder(JetStreamTrackingRecorder):
    """A subclass, as an application would have its own."""


class TestFactory(WithFactory, cases.InfrastructureFactoryTestCase[JetStreamFactory]):
    def setUp(self) -> None:
        self.env = Environment("tested", self.environment | {"PERSISTENCE_MODULE": MODULE})
        super().setUp()

    def expected_factory_class(self) -> type[JetStreamFactory]:
        return JetStreamFactory

    def expected_aggregate_recorder_class(self) -> type[AggregateRecorder]:
        return JetStreamAggregateRecorder

    def expected_application_recorder_class(self) -> type[ApplicationRecorder]:
        return JetStreamApplicationRecorder

    def expected_tracking_recorder_class(self) -> type[TrackingRecorder]:
        return JetStreamTrackingRecorder

    def tracking_recorder_subclass(self) -> type[TrackingRecorder]:
        return OtherTrackingRecorder

    def expected_process_recorder_class(self) -> type[ProcessRecorder]:
        return JetStreamProcessRecorder


class TestExampleApplication(WithFactory, application_cases.ExampleApplicationTestCase):
    expected_factory_topic = get_topic(RememberedFactory)


@pytest.mark.filterwarnings("always:'log' is deprecated")  # the case looks for it
class TestApplication(WithFactory, application_cases.ApplicationTestCase):
    """An application on JetStream: named, cached, fast-forwarded, logged."""


class CountingView(JetStreamTrackingRecorder, projection_cases.EventCountersView):
    """Counts in memory, beside positions that are recorded."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._created = self._subsequent = 0

    def get_created_event_counter(self) -> int:
        return self._created

    def get_subsequent_event_counter(self) -> int:
        return self._subsequent

    def incr_created_event_counter(self, tracking: Tracking) -> None:
        self.insert_tracking(tracking)
        self._created += 1

    def incr_subsequent_event_counter(self, tracking: Tracking) -> None:
        self.insert_tracking(tracking)
        self._subsequent += 1


class TestProjection(WithFactory, projection_cases.AggregateEventCountersProjectionTestCase):
    view_class = CountingView


class TestEventSourcedProjection(WithFactory, projection_cases.EventSourcedProjectionTestCase):
    """A projection that is an application itself, with a process recorder."""


def stored(id: UUID | str, version: int, state: bytes = b"state") -> StoredEvent:
    return StoredEvent(id, version, "topic", state)


def test_what_is_recorded_is_there_for_the_next_process(environment: dict[str, str]) -> None:
    id = uuid4()
    for version in (1, 2):
        factory = JetStreamFactory(Environment("same", environment))
        recorder = factory.application_recorder()
        assert recorder.insert_events([stored(id, version)]) == [version]
        assert len(recorder.select_events(id)) == version
        factory.close()


def test_of_two_processes_at_the_same_version_one_is_refused(environment: dict[str, str]) -> None:
    id = uuid4()
    factories = [JetStreamFactory(Environment("same", environment)) for _ in range(2)]
    one, other = (factory.application_recorder() for factory in factories)
    one.insert_events([stored(id, 1)])
    other.insert_events([stored(id, 2)])
    with pytest.raises(IntegrityError):
        one.insert_events([stored(id, 2, b"another")])
    one.insert_events([stored(id, 3)])
    assert [e.originator_version for e in other.select_events(id)] == [1, 2, 3]
    for factory in factories:
        factory.close()


def test_text_can_be_an_id_and_any_bytes_a_state(environment: dict[str, str]) -> None:
    environment["ORIGINATOR_ID_TYPE"] = "text"
    factory = JetStreamFactory(Environment("tested", environment))
    recorder = factory.application_recorder()
    event = stored("up.loads/größe *", 1, bytes(range(256)))
    recorder.insert_events([event])
    assert recorder.select_events("up.loads/größe *") == [event]
    assert recorder.select_notifications(1, 10)[0].originator_id == "up.loads/größe *"
    factory.close()


async def test_a_lost_reply_is_no_conflict(environment: dict[str, str], proxy: Proxy) -> None:
    """Several aggregates and a position in one batch: stored, and the answer lost on the way."""
    events = [stored(uuid4(), 1), stored(uuid4(), 1)]
    environment["PENSTOCK_NATS_URL"] = proxy.url

    def record() -> None:
        factory = JetStreamFactory(Environment("tested", environment))
        recorder = factory.process_recorder()
        proxy.lose, proxy.cut_then = b'"seq":', True
        assert recorder.insert_events(events, tracking=Tracking("upstream", 5)) == [1, 2]
        assert recorder.max_tracking_id("upstream") == 5
        with pytest.raises(IntegrityError):
            recorder.insert_events(events)
        assert recorder.max_notification_id() == 2
        factory.close()

    await asyncio.to_thread(record)
    assert proxy.lost.is_set()


def test_stopping_ends_a_subscription_that_waits(factory: JetStreamFactory) -> None:
    recorder = factory.application_recorder()
    seen: list[int] = []
    first = threading.Event()

    def read() -> None:
        for notification in subscription:
            seen.append(notification.id)
            first.set()

    subscription = recorder.subscribe()
    reader = threading.Thread(target=read)
    reader.start()
    recorder.insert_events([stored(uuid4(), 1)])
    assert first.wait(10)
    subscription.stop()
    reader.join(10)
    assert not reader.is_alive()
    assert seen == [1]


def test_a_subscription_to_topics_gives_no_others(factory: JetStreamFactory) -> None:
    recorder = factory.application_recorder()
    recorder.insert_events([StoredEvent(uuid4(), 1, f"topic{n}", b"") for n in (1, 2, 3)])
    with recorder.subscribe(topics=["topic2", "topic3"]) as subscription:
        assert [next(subscription).topic for _ in range(2)] == ["topic2", "topic3"]


def test_errors_are_the_librarys_own(
    factory: JetStreamFactory, environment: dict[str, str]
) -> None:
    recorder = factory.application_recorder()
    with pytest.raises(DataError, match="object store"):
        recorder.insert_events([stored(uuid4(), 1, bytes(8 * 1024 * 1024))])
    with pytest.raises(ProgrammingError, match="1 to 256 characters"):
        recorder.select_events("x" * 257)
    environment["CREATE_TABLE"] = "no"
    unprovisioned = JetStreamFactory(Environment("nowhere", environment))
    with pytest.raises(OperationalError, match="is the stream there"):
        unprovisioned.application_recorder().select_events(uuid4())
    unprovisioned.close()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PENSTOCK_NATS_URL", ""),
        ("ORIGINATOR_ID_TYPE", "number"),
        ("PENSTOCK_REPLICAS", "2"),
        ("APPLICATION_RECORDER_TOPIC", "builtins:dict"),
    ],
)
def test_a_wrong_environment_is_said_in_one_sentence(
    environment: dict[str, str], variable: str, value: str
) -> None:
    environment[variable] = value
    threads = threading.active_count()
    with pytest.raises(InfrastructureFactoryError, match=variable):
        RememberedFactory(Environment("tested", environment)).application_recorder()
    assert threading.active_count() == threads + len(RememberedFactory.made)
