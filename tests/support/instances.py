"""`penstock serve` in processes of their own, to be killed."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from support.command_line import CLEAN, PENSTOCK, UP


@contextmanager
def serving(
    url: str, prefix: str, directory: Path, service: str, **settings: str
) -> Iterator[subprocess.Popen[str]]:
    """One instance, ready when the block begins and killed when it ends."""
    environ = {
        **CLEAN,
        **UP,
        "PENSTOCK_NATS_URL": url,
        "PENSTOCK_PREFIX": prefix,
        "PENSTOCK_DATA": str(directory),
        **{f"PENSTOCK_{name.upper()}": value for name, value in settings.items()},
    }
    with subprocess.Popen(
        [*PENSTOCK, "serve", service],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            assert process.stdout
            said = []
            for line in process.stdout:
                said.append(line)
                if " serves " in line:
                    break
            else:
                raise AssertionError("".join(said))
            yield process
        finally:
            process.kill()
            process.communicate()


@contextmanager
def all_serving(
    url: str, prefix: str, directory: Path, service: str, count: int
) -> Iterator[list[subprocess.Popen[str]]]:
    """Several instances, each with data of its own."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(serving(url, prefix, directory / str(n), service))
            for n in range(count)
        ]
