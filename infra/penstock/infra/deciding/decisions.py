"""What was answered to commands that caused no event: refusals, and what was so already.

An event tells by its cause which command it came from, so that the same command has no second
effect. A command without an event leaves its answer here, or it might be decided otherwise when it
comes again. Never decides.
"""

from __future__ import annotations

import hashlib

import msgspec

from penstock.contracts.answers import Outcome
from penstock.contracts.envelope import Envelope, decode
from penstock.contracts.errors import Conflict
from penstock.contracts.subjects import EXPECTED, EXPECTED_SUBJECT, TTL
from penstock.infra.bus import Stored, StreamError
from penstock.infra.event_log import WRONG_LAST_SEQUENCE, JetStreamEventLog, Recorded
from penstock.infra.last_messages import LastMessages

KEPT = 30 * 86_400  # seconds that a decision is remembered

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Outcome).decode


class Head(msgspec.Struct, frozen=True):
    """Where an aggregate stands, and what was answered to a command that caused no event."""

    last: Recorded | None = None
    outcome: Outcome | None = None

    @property
    def sequence(self) -> int:
        """The last event's sequence; 0 for none."""
        return self.last.sequence if self.last else 0


class Decisions:
    """Those of one service, kept in the stream of its events."""

    def __init__(self, log: JetStreamEventLog) -> None:
        self._log = log
        self._bus = log.bus
        self._subjects = log.bus.subjects
        self._service = log.service
        self._last = LastMessages(log.bus, log.stream)

    async def head(self, command: Envelope) -> Head:
        """The aggregate's last event and the command's earlier answer, both of one moment."""
        event, decision = self._event(command.subject), self._decision(command)
        stored = await self._last.of(event, decision)
        return Head(_recorded(stored.get(event)), _outcome(stored.get(decision)))

    async def record(self, command: Envelope, outcome: Outcome, *, expected: int) -> None:
        """Remember an answer. Raises Conflict if the aggregate is not at `expected` any more.

        What was recorded before by another instance, of the same state, is the same answer.
        """
        headers = {
            EXPECTED: str(expected),
            EXPECTED_SUBJECT: self._event(command.subject),
            TTL: f"{KEPT}s",
        }
        try:
            await self._bus.publish_acked(self._decision(command), _encode(outcome), headers)
        except StreamError as error:
            if error.err_code not in WRONG_LAST_SEQUENCE:
                raise
            raise Conflict(f"{command.subject!r} was changed meanwhile; decide again.") from error

    async def forget(self, id: str) -> None:
        """Remove all decisions about one aggregate."""
        subject = self._subjects.decision(self._service, id, "*")
        await self._bus.api(f"STREAM.PURGE.{self._log.stream}", {"filter": subject})

    def _event(self, id: str) -> str:
        return self._subjects.event(self._service, id)

    def _decision(self, command: Envelope) -> str:
        # By what it says as well: who corrects a command and keeps its id asks something else.
        said = f"{command.id}\0{command.type}\0".encode() + bytes(command.data)
        key = hashlib.blake2b(said, digest_size=16).hexdigest()
        return self._subjects.decision(self._service, command.subject, key)


def _recorded(message: Stored | None) -> Recorded | None:
    return Recorded(message.sequence, decode(message.data)) if message else None


def _outcome(message: Stored | None) -> Outcome | None:
    return _decode(message.data) if message else None
