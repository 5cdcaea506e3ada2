"""Other job systems, measured in the same run where they are installed."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.jobs.figures import Figure


async def peers(directory: Path, options: argparse.Namespace) -> list[Figure]:
    """Not yet."""
    return []
