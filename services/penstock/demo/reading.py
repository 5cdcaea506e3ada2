"""Reads a file without holding up the event loop. Never knows what a job is."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from penstock.demo.readers import Kind, Passage, UnreadableFile, kind_of, read_passages

LONGEST_LINE = 64 * 1024 * 1024  # bytes: all passages of a file are one line
Tick = Callable[[float], Awaitable[None]]


class _Unreadable(msgspec.Struct):
    unreadable: str


_decode: Callable[[bytes], float | list[Passage] | _Unreadable] = msgspec.json.Decoder(
    float | list[Passage] | _Unreadable
).decode


async def read(path: Path, on_progress: Tick) -> list[Passage]:
    """The passages of `path`; `on_progress` is awaited with the part that is done, 0 to 1.

    Speech is read in a process of its own, since the recogniser holds the interpreter lock for
    seconds. Raises UnreadableFile.
    """
    if kind_of(path) is not Kind.WAV:
        return await asyncio.to_thread(read_passages, path)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "penstock.demo.readers", str(path), stdout=PIPE, limit=LONGEST_LINE
    )
    try:
        return await _told(path, process, on_progress)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _told(path: Path, process: Process, on_progress: Tick) -> list[Passage]:
    assert process.stdout
    async for line in process.stdout:
        match _decode(line):
            case float(fraction):
                await on_progress(fraction)
            case _Unreadable(unreadable=reason):
                raise UnreadableFile(reason)
            case passages:
                await process.wait()
                return passages
    status = await process.wait()
    raise RuntimeError(f"reading {path} ended with status {status} and no result")
