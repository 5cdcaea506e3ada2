"""Who may import whom: the walls of the house."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.contracts.subjects import SERVICES

ROOT = Path(__file__).parent.parent
PLACES = {name: ROOT / "services/penstock" / name for name in (*SERVICES, "cli", "demo")}
PLACES |= {"contracts": ROOT / "contracts/penstock/contracts"}
PLACES |= {"client": ROOT / "contracts/penstock/client", "infra": ROOT / "infra/penstock/infra"}
PLACES |= {"client.testing": PLACES["client"] / "testing"}
PURE_JOBS = (
    "job",
    "job_endings",
    "domain",
    "gate",
    "queue_states",
    "schedule",
    "schedule_ticks",
    "schedule_timing",
    "unique_key",
    "workflow",
    "workflow_jobs",
    "workflow_payload",
)
# No more than a database in memory.
READ_JOBS = ("views", "admission_reasons", "estimates", "workers", "workers_view")
MAY_IMPORT = {
    "contracts": {"contracts"},
    "infra": {"contracts", "infra", "client.discovery"},
    "client": {"contracts", "client", "infra"},
    # runs the pure domains in memory, for an application's tests, and asks the views about them
    "client.testing": {
        "contracts",
        "client",
        "infra",
        *(f"jobs.{part}" for part in (*PURE_JOBS, *READ_JOBS)),
        *(f"{service}.views" for service in ("progress", "notifications")),
        *(f"{service}.domain" for service in ("progress", "notifications", "cache")),
    },
    "demo": {"client", "demo"},
    **{name: {"contracts", "infra", name} for name in SERVICES},
}


def imported(file: Path) -> Iterator[str]:
    """Every `penstock.` module that a file imports, without the prefix."""
    for node in ast.walk(ast.parse(file.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            # of a whole service, what is taken from it
            is_service = node.module in {f"penstock.{name}" for name in SERVICES}
            parts = [f"{node.module}.{a.name}" for a in node.names]
            names = parts if is_service else [node.module or ""]
        yield from (name.removeprefix("penstock.") for name in names if "penstock." in name)


@pytest.mark.parametrize("place", MAY_IMPORT)
def test_a_part_imports_only_what_it_may(place: str) -> None:
    apart = [PLACES["client.testing"]] if place == "client" else []
    files = [f for f in PLACES[place].rglob("*.py") if not any(a in f.parents for a in apart)]
    assert files
    wrong = {
        f"{file.relative_to(ROOT)}: {name}"
        for file in files
        for name in imported(file)
        if not any(name == may or name.startswith(f"{may}.") for may in MAY_IMPORT[place])
    }
    assert not wrong


def test_the_namespace_has_no_init_of_its_own() -> None:
    assert not list(ROOT.glob("*/penstock/__init__.py"))


def test_the_eventsourcing_library_is_imported_in_one_place() -> None:
    users = {
        file.relative_to(ROOT).parts[:4]
        for part in ("contracts", "infra", "services")
        for file in (ROOT / part).rglob("*.py")
        if "import eventsourcing" in (text := file.read_text()) or "from eventsourcing" in text
    }
    assert len(users) <= 1


def test_the_sdk_needs_the_base_dependencies_alone() -> None:
    extras = (
        "cronsim, faststream, aiohttp, apsw, prometheus_client, jwt, numpy, rich, opentelemetry.sdk"
    )
    program = f"""
import sys
import penstock.client, penstock.client.testing
loaded = [name for name in "{extras}".split(", ") if name in sys.modules]
# nats-py loads aiohttp by itself where it is installed, for WebSocket transport
print(sorted(set(loaded) - {{"aiohttp"}}))
"""
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.strip() == "[]"
