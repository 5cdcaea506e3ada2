"""How much memory programs take while something is measured. Never reads any but theirs."""

from __future__ import annotations

from typing import Protocol

SAMPLES = 1.0  # seconds between two looks


class Running(Protocol):
    """A program that runs; `memory` is what it takes now, in MB, 0 once it has ended."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    @property
    def memory(self) -> float:
        """See the class."""
        ...


class Memory:
    """How much each process takes, seen once a second."""

    def __init__(self, *programs: Running) -> None:
        self._seen: dict[str, list[float]] = {program.name: [] for program in programs}
        self._programs = programs
        self._last = 0.0

    def look(self, now: float) -> None:
        """It is `now`."""
        if now - self._last >= SAMPLES:
            self._last = now
            for program in self._programs:
                if memory := program.memory:
                    self._seen[program.name].append(memory)

    def __str__(self) -> str:
        """The memory after a third, after two thirds and at the end."""
        return "; ".join(
            f"{name} {', '.join(f'{seen[int(part * (len(seen) - 1))]:.0f}' for part in _PARTS)} MB"
            for name, seen in self._seen.items()
            if seen
        )


_PARTS = (0.33, 0.67, 1.0)
