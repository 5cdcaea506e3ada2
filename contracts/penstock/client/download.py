"""Saves a stream of bytes as a file that appears whole or not at all. Never checks the content."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import BinaryIO


async def save(pieces: AsyncIterator[bytes], target: Path) -> None:
    """Write `pieces` to disk beside `target` and, once all are there, put them in its place.

    If anything is raised, here or by `pieces`, `target` is as it was and nothing is left beside it.
    Raises OSError.
    """
    part = target.with_name(f".{uuid.uuid4().hex}.part")
    file = await asyncio.to_thread(part.open, "xb")
    try:
        with file:
            async for piece in pieces:
                await asyncio.to_thread(file.write, piece)
            await asyncio.to_thread(_finish, file, part, target)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def _finish(file: BinaryIO, part: Path, target: Path) -> None:
    """Only what is on disk gets the name, and the name is on disk too."""
    file.flush()
    os.fsync(file.fileno())
    part.replace(target)
    if os.name == "nt":  # which cannot open directories, and does not need it
        return
    directory = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
