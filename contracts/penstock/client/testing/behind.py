"""What the session in memory asks of the system behind it. Never does anything."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import PenstockError
from penstock.contracts.workers import WorkerSign


class Behind(Protocol):
    """What is behind a session."""

    now: datetime

    def check(self, command: msgspec.Struct, id: str) -> PenstockError | None:
        """Why there may be no new job. Raises what the command is refused with otherwise."""
        ...

    def follow(self, service: str, id: str, command: Envelope, data: msgspec.Struct) -> None:
        """Do what comes of a command that was carried out."""
        ...

    def sign(self) -> WorkerSign:
        """That of the worker whose handlers are run."""
        ...
