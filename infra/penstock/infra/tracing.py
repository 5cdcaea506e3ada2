"""One trace from caller to view, carried as W3C `traceparent`. Needs the OpenTelemetry API alone.

Span names and attributes follow OpenTelemetry's messaging conventions
(https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import propagate, trace
from opentelemetry.context import Context

tracer = trace.get_tracer("penstock")


def is_recording() -> bool:
    """Whether anybody collects spans: without, what a message carried goes on as it is."""
    return not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


def traceparent() -> str | None:
    """The present trace context, or None outside of a trace."""
    carrier: dict[str, str] = {}
    propagate.inject(carrier)
    return carrier.get("traceparent")


def context_of(parent: str | None) -> Context | None:
    """The trace context that a message carried."""
    return propagate.extract({"traceparent": parent}) if parent else None


@contextmanager
def message_span(
    operation: str, destination: str, *, kind: trace.SpanKind, parent: str | None = None, id: str
) -> Iterator[trace.Span]:
    """A span around one message: `operation` is send or process, `destination` its subject."""
    if parent is None and not is_recording():
        yield trace.INVALID_SPAN  # even those of nobody cost as much as the rest of a message
        return
    attributes = {
        "messaging.system": "nats",
        "messaging.operation.name": operation,
        "messaging.destination.name": destination,
        "messaging.message.id": id,
    }
    with tracer.start_as_current_span(
        f"{operation} {destination}",
        context=context_of(parent),
        kind=kind,
        attributes=attributes,
    ) as span:
        yield span
