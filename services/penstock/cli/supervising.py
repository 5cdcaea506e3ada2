"""Keeps a number of processes of one program running, and ends them in good order.

Never looks into what they do.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

log = logging.getLogger(__name__)

FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds until a process that died is started again
STEADY = 30.0  # seconds after which one that dies is no longer taken to be failing
LOOK = 0.5  # seconds between two looks at files
TICK = 0.1
IGNORED = {".git", ".venv", "venv", "node_modules", "__pycache__", ".penstock", ".mypy_cache"}


class _Place:
    """One of the processes, and when it may be started again."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.wait = FIRST_WAIT
        self.since = 0.0
        self.next = 0.0
        self.told = False


class Supervisor:
    """`count` processes of `command`. SIGTERM and SIGINT are passed on each time they come; the
    first one ends the supervision too. With `reload` all start again when a .py file below the
    working directory changes.
    """

    def __init__(self, command: Sequence[str], count: int, *, reload: bool = False) -> None:
        self._command = list(command)
        self._places = [_Place() for _ in range(count)]
        self._reload = reload
        self._ending = False
        self._tick = threading.Event()

    def run(self) -> int:
        """Until told to end; the exit status."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._told)
        files, looked = _files() if self._reload else {}, time.monotonic()
        while not self._ending:
            for place in self._places:
                self._tend(place)
            if self._reload and time.monotonic() >= looked + LOOK:
                looked, before, files = time.monotonic(), files, _files()
                if files != before:
                    self._renew()
            self._tick.wait(TICK)
        for place in self._places:
            if place.process is not None:
                place.process.wait()
        return 0

    def _told(self, number: int, _: FrameType | None) -> None:
        self._ending = True
        self._tick.set()
        self._send(signal.Signals(number))

    def _is_ending(self) -> bool:
        return self._ending

    def _send(self, number: signal.Signals) -> None:
        for place in self._places:
            if place.process is not None and place.process.poll() is None:
                place.told = True
                place.process.send_signal(number)

    def _tend(self, place: _Place) -> None:
        now = time.monotonic()
        if place.process is not None and (status := place.process.poll()) is not None:
            place.process = None
            place.wait = FIRST_WAIT if now - place.since > STEADY else place.wait
            place.next = now + place.wait
            log.warning(
                "a worker ended with status %d; another follows in %.1f s", status, place.wait
            )
            place.wait = min(LONGEST_WAIT, place.wait * 2)
        if place.process is None and now >= place.next and not self._ending:
            # A session of its own: Ctrl-C reaches it through here alone, and so only once.
            place.process = subprocess.Popen(self._command, start_new_session=True)
            place.since, place.told = now, False
            if self._is_ending() and not place.told:  # a signal that came amid the start
                place.process.terminate()

    def _renew(self) -> None:
        log.info("a file changed: the workers start again")
        self._send(signal.SIGTERM)
        for place in self._places:
            if place.process is not None:
                place.process.wait()
            place.process, place.wait, place.next = None, FIRST_WAIT, 0.0


def _files() -> dict[Path, float]:
    """When each .py file below the working directory was changed last."""
    return dict(_changed(Path.cwd()))


def _changed(directory: Path) -> Iterator[tuple[Path, float]]:
    try:
        for path in directory.iterdir():
            if path.is_dir():
                if path.name not in IGNORED and not path.is_symlink():
                    yield from _changed(path)
            elif path.suffix == ".py":
                yield path, path.stat().st_mtime
    except OSError:
        return  # gone meanwhile
