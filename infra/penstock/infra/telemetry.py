"""Metrics, logs and traces: their names and their set-up. Never decides what is measured."""

from __future__ import annotations

import logging
import os
import sys
from datetime import UTC, datetime

import msgspec
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import Counter, Gauge, Histogram

COMMANDS = Counter("penstock_commands", "Commands handled", ["service", "type", "outcome"])
COMMAND_SECONDS = Histogram(
    "penstock_command_seconds",
    "Time to handle a command",
    ["service"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
FOLDED = Counter("penstock_events_folded", "Events folded into the view", ["service"])
SEQUENCE = Gauge("penstock_view_sequence", "Last stream sequence in the view", ["service"])
LAG = Gauge("penstock_view_lag", "Events stored and not yet folded", ["service"])
DEAD_LETTERS = Counter("penstock_dead_letters", "Messages given up", ["service", "kind", "reason"])
DEAD_LETTERS_KEPT = Gauge("penstock_dead_letters_kept", "Dead letters there now", ["service"])
REDRIVEN = Counter(
    "penstock_dead_letters_redriven", "Dead letters redriven by this process", ["service", "kind"]
)
DISCARDED = Counter(
    "penstock_dead_letters_discarded", "Dead letters discarded by this process", ["service", "kind"]
)
HELD = Gauge(
    "penstock_held_aggregates", "Aggregates with an event that cannot be folded", ["service"]
)
SOCKETS = Gauge("penstock_sockets", "WebSockets open")
QUERIES = Counter("penstock_queries", "Queries answered", ["service", "name", "outcome"])


def set_up_tracing(service: str) -> TracerProvider | None:
    """Export spans if OTEL_EXPORTER_OTLP_ENDPOINT is set; shut the result down at exit."""
    if not os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT"):
        return None
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the trace it belongs to."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging.Formatter.format."""
        span = trace.get_current_span().get_span_context()
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if span.is_valid:
            line["trace_id"] = trace.format_trace_id(span.trace_id)
            line["span_id"] = trace.format_span_id(span.span_id)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line).decode()


def set_up_logging(level: str, style: str) -> None:
    """Log to standard error, as text or JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    if style == "json":
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for chatty in ("faststream", "aiohttp.access", "nats"):
        logging.getLogger(chatty).setLevel(
            max(logging.WARNING, logging.getLevelName(level.upper()))
        )
