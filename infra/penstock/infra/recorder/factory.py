"""Makes the recorders of an application of the library, from its environment.

`PERSISTENCE_MODULE=penstock.infra.recorder` finds it. Never reads the environment otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    InfrastructureFactory,
    InfrastructureFactoryError,
    ProcessRecorder,
)
from eventsourcing.utils import Environment, EnvType, resolve_topic, strtobool

from penstock.infra.bus import Bus
from penstock.infra.recorder.layout import Layout
from penstock.infra.recorder.loop_thread import LoopThread
from penstock.infra.recorder.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
    library_errors,
)
from penstock.infra.recorder.stored_events import StoredEvents
from penstock.infra.streams import ensure, event_store

R = TypeVar("R")
ID_TYPES = {"uuid": UUID, "text": str}


class JetStreamFactory(InfrastructureFactory[JetStreamTrackingRecorder]):
    """One connection, and a stream for each recorder: `<PREFIX>_REC_<application>-<purpose>`.

    Environment, each also with the application's name before it, as the library has it:

    - `PENSTOCK_NATS_URL`, `PENSTOCK_NATS_CREDS`, `PENSTOCK_PREFIX`, `PENSTOCK_REPLICAS`
    - `ORIGINATOR_ID_TYPE`: what ids of aggregates are, `uuid` (default) or `text`
    - `CREATE_TABLE`: whether to make or grow the streams (default: yes)
    """

    NATS_URL = "PENSTOCK_NATS_URL"
    NATS_CREDS = "PENSTOCK_NATS_CREDS"
    PREFIX = "PENSTOCK_PREFIX"
    REPLICAS = "PENSTOCK_REPLICAS"
    ORIGINATOR_ID_TYPE = "ORIGINATOR_ID_TYPE"
    CREATE_TABLE = "CREATE_TABLE"

    def __init__(self, env: Environment | EnvType | None) -> None:
        """Connect. Raises InfrastructureFactoryError for a wrong environment, OperationalError."""
        super().__init__(env)
        self._to_id = ID_TYPES[self._one_of(self.ORIGINATOR_ID_TYPE, "uuid", tuple(ID_TYPES))]
        self._replicas = int(self._one_of(self.REPLICAS, "1", ("1", "3", "5")))
        self._thread = LoopThread()
        try:
            with library_errors():
                self._bus = self._thread.run(self._connect())
        except BaseException:
            self._thread.close()
            raise

    def close(self) -> None:
        """Close the connection. Closing twice is closing once."""
        if not self._bus.nc.is_closed:
            self._thread.run(self._bus.close())
            self._thread.close()

    def aggregate_recorder(self, purpose: str = "events") -> AggregateRecorder:
        """Events, or for the purpose `snapshots` snapshots, of aggregates."""
        return JetStreamAggregateRecorder(self._thread, self._stored_events(purpose))

    def application_recorder(self) -> ApplicationRecorder:
        """Of the class that `APPLICATION_RECORDER_TOPIC` names."""
        return self._recorder(self.APPLICATION_RECORDER_TOPIC, JetStreamApplicationRecorder)

    def tracking_recorder(
        self, tracking_recorder_class: type[JetStreamTrackingRecorder] | None = None
    ) -> JetStreamTrackingRecorder:
        """Of the class given, or else of the one that `TRACKING_RECORDER_TOPIC` names."""
        if tracking_recorder_class is not None:
            return tracking_recorder_class(self._thread, self._stored_events("events"))
        return self._recorder(self.TRACKING_RECORDER_TOPIC, JetStreamTrackingRecorder)

    def process_recorder(self) -> ProcessRecorder:
        """Of the class that `PROCESS_RECORDER_TOPIC` names."""
        return self._recorder(self.PROCESS_RECORDER_TOPIC, JetStreamProcessRecorder)

    def _recorder(self, key: str, default: type[R]) -> R:
        topic = self.env.get(key)
        chosen = resolve_topic(topic) if topic else default
        if not (isinstance(chosen, type) and issubclass(chosen, default)):
            raise InfrastructureFactoryError(f"{key}={topic} is no {default.__name__}.")
        return chosen(self._thread, self._stored_events("events"))  # type: ignore[call-arg]

    def _stored_events(self, purpose: str) -> StoredEvents:
        name = f"{self.env.name or 'application'}-{purpose}"
        layout = Layout(self._bus.subjects, name, self._to_id)
        if strtobool(self.env.get(self.CREATE_TABLE, "yes")):
            subjects = [layout.events, layout.trackings]
            with library_errors():
                wanted = event_store(layout.stream, subjects, self._replicas)
                self._thread.run(ensure(self._bus, wanted))
        return StoredEvents(self._bus, layout)

    async def _connect(self) -> Bus:
        url = self.env.get(self.NATS_URL)
        if not url:
            raise InfrastructureFactoryError(
                f"Set {self.NATS_URL} to the address of NATS, such as nats://127.0.0.1:4222."
            )
        creds = self.env.get(self.NATS_CREDS)
        return await Bus.connect(
            url,
            prefix=self.env.get(self.PREFIX, "penstock"),
            name=f"recorder of {self.env.name or 'application'}",
            creds=Path(creds) if creds else None,
        )

    def _one_of(self, key: str, default: str, allowed: tuple[str, ...]) -> str:
        found = self.env.get(key, default)
        if found not in allowed:
            raise InfrastructureFactoryError(f"{key} is {found!r}; it can be {', '.join(allowed)}.")
        return found
