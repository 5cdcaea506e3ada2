"""One trace from the caller to the stored event; logs and metrics that name it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from penstock.client import Penstock
from penstock.infra.telemetry import JsonFormatter
from penstock.infra.testing import running_system
from penstock.progress.service import build

EXPORTER = InMemorySpanExporter()


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """What was traced during the test; the provider of a process can be set only once."""
    if not isinstance(trace.get_tracer_provider(), TracerProvider):
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(EXPORTER))
        trace.set_tracer_provider(provider)
    EXPORTER.clear()
    yield EXPORTER
    EXPORTER.clear()


async def test_a_trace_follows_a_command_from_the_caller_to_the_stored_event(
    spans: InMemorySpanExporter, nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with (
        running_system(nats_url, prefix, tmp_path, {"progress": build}),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        with trace.get_tracer("test").start_as_current_span("the caller") as caller:
            await ps.progress.create("traced")
        (event,) = await ps.progress.history("traced")
    wanted = trace.format_trace_id(caller.get_span_context().trace_id)
    assert event.traceparent and event.traceparent.split("-")[1] == wanted
    found = {span.name: span for span in spans.get_finished_spans()}
    sent = found[f"send {prefix}.cmd.progress.create"]
    handled = found[f"process {prefix}.cmd.progress.create"]
    assert handled.parent and sent.context
    assert handled.parent.span_id == sent.context.span_id
    for span in (sent, handled):
        assert span.context and trace.format_trace_id(span.context.trace_id) == wanted
        assert (span.attributes or {})["messaging.system"] == "nats"


def test_a_log_line_is_json_and_names_its_trace(spans: InMemorySpanExporter) -> None:
    record = logging.LogRecord("penstock.x", logging.WARNING, "", 1, "low on %s", ("disk",), None)
    with trace.get_tracer("test").start_as_current_span("work") as span:
        line = msgspec.json.decode(JsonFormatter().format(record))
    assert (line["level"], line["logger"], line["message"]) == (
        "warning",
        "penstock.x",
        "low on disk",
    )
    assert line["trace_id"] == trace.format_trace_id(span.get_span_context().trace_id)


async def test_metrics_count_commands_and_folded_events(
    nats_url: str, prefix: str, tmp_path: Path
) -> None:
    async with (
        running_system(nats_url, prefix, tmp_path, {"progress": build}) as host,
        Penstock(nats_url, prefix=prefix) as ps,
        aiohttp.ClientSession(host.http_url) as http,
    ):
        before = await metric(http, "penstock_events_folded_total")
        await ps.progress.create("counted")
        await ps.progress.get("counted")
        assert await metric(http, "penstock_events_folded_total") == before + 1
        done = 'penstock_commands_total{outcome="done",service="progress"'
        assert await metric(http, done) >= 1


async def metric(http: aiohttp.ClientSession, name: str) -> float:
    """The sum of the samples of progress whose line begins with `name`."""
    async with http.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    mine = [x for x in lines if x.startswith(name) and 'service="progress"' in x]
    return sum(float(line.rpartition(" ")[2]) for line in mine)
