"""What the document of jobs shows runs as it stands, block after block, against a real system."""

from __future__ import annotations

import ast
import inspect
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from penstock.client import Penstock, Worker
from penstock.infra.host import Build
from penstock.infra.nats_server import EmbeddedNats
from penstock.infra.testing import running_system
from penstock.jobs.service import build as jobs
from penstock.progress.service import build as progress

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "services/penstock/jobs/README.md"


def blocks() -> list[str]:
    """The Python of the document, without what would run until the program is told to end."""
    found = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.S)
    return [re.sub(r"^worker\.run\(\).*$", "", block, flags=re.M) for block in found]


async def run(number: int, block: str, names: dict[str, Any]) -> None:
    top = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code = compile(block, f"{DOCUMENT.name}, block {number}", "exec", top, dont_inherit=True)
    result = eval(code, names)
    if inspect.isawaitable(result):
        await result


async def test_every_block_runs_as_it_stands(
    fresh_nats: EmbeddedNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_NATS_URL", fresh_nats.url)
    names: dict[str, Any] = {"__name__": "readme"}
    builders: dict[str, Build] = {"jobs": jobs, "progress": progress}
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(
            running_system(fresh_nats.url, "penstock", tmp_path / "system", builders)
        )
        names["ps"] = await stack.enter_async_context(Penstock(actor="readme"))
        for number, block in enumerate(blocks()):
            await run(number, block, names)
            if number == 0:
                worker: Worker = names["worker"]
                await stack.enter_async_context(worker)
    assert number >= 5
