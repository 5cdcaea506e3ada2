"""`penstock workflows` against a running system, in the test's own process."""

from __future__ import annotations

import asyncio
import io
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from penstock.cli.main import main
from penstock.client import Penstock, step
from penstock.infra.testing import running_system
from penstock.jobs.service import build


def workflows(*arguments: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        status = main(["workflows", *arguments])
    return status, out.getvalue(), err.getvalue()


async def test_a_workflow_is_listed_shown_cancelled_and_restarted(
    nats_url: str, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_NATS_URL", nats_url)
    monkeypatch.setenv("PENSTOCK_PREFIX", prefix)
    async with (
        running_system(nats_url, prefix, tmp_path, {"jobs": build}),
        Penstock(nats_url, prefix=prefix) as ps,
    ):
        await ps.workflows.start([step("a"), step("b", after=["a"])], id="w")
        _, listed, _ = await asyncio.to_thread(workflows, "list")
        assert "workflow:w  processing  0/2" in listed
        _, shown, _ = await asyncio.to_thread(workflows, "show", "w")
        assert [line.split()[1:3] for line in shown.splitlines()[1:]] == [
            ["a", "processing"],
            ["b", "waiting"],
        ]
        _, cancelled, _ = await asyncio.to_thread(workflows, "cancel", "w", "--reason", "enough")
        assert "workflow:w  cancelled  enough" in cancelled
        _, restarted, _ = await asyncio.to_thread(workflows, "restart", "w")
        assert "a  processing  w.a~1" in restarted
        status, _, said = await asyncio.to_thread(workflows, "show", "x")
        assert status == 1
        assert said.startswith("penstock: ")
