"""JetStream behind the `eventsourcing` library, and that library's recorders behind our event log.

The only place that imports the library (extra `eventsourcing`); it knows nothing of any service.

An application of the library stores its events in JetStream with these environment variables:

    PERSISTENCE_MODULE=penstock.infra.recorder
    PENSTOCK_NATS_URL=nats://127.0.0.1:4222
"""

from penstock.infra.recorder.event_log import RecorderEventLog
from penstock.infra.recorder.factory import JetStreamFactory
from penstock.infra.recorder.recorders import (
    JetStreamAggregateRecorder,
    JetStreamApplicationRecorder,
    JetStreamProcessRecorder,
    JetStreamTrackingRecorder,
)

__all__ = [
    "JetStreamAggregateRecorder",
    "JetStreamApplicationRecorder",
    "JetStreamFactory",
    "JetStreamProcessRecorder",
    "JetStreamTrackingRecorder",
    "RecorderEventLog",
]
