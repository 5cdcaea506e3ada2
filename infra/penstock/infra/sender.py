"""Sends commands and asks questions: what the SDK and the HTTP gateway both stand on.

Never decides what an outcome means to the caller.
"""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime
from typing import TypeVar

import msgspec
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind

from penstock.contracts.answers import Accepted, Answer, Outcome, Question
from penstock.contracts.envelope import Envelope, encode, type_of, wrap
from penstock.contracts.errors import Timeout, Unavailable, from_problem
from penstock.contracts.subjects import MSG_ID, REPLY, token
from penstock.infra.bus import Ack, Bus
from penstock.infra.storing import despite_lost_connections, store
from penstock.infra.tracing import message_span, traceparent

T = TypeVar("T")
LONGEST_WAIT = 30.0
CONNECTING = 0.3  # seconds that a service takes to connect again

_decode_outcome = msgspec.json.Decoder(Outcome).decode
_decode_answer = msgspec.json.Decoder(Answer).decode
_encode = msgspec.json.Encoder().encode


class Cause(msgspec.Struct, frozen=True, kw_only=True):
    """What a command belongs to: its flow, what caused it, and who asks."""

    correlationid: str
    event: Envelope | None = None
    actor: str | None = None


class Sender:
    """Publishes commands into their stream, and waits for outcomes on one inbox."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus

    async def send(
        self,
        command: msgspec.Struct,
        *,
        id: str,
        command_id: str,
        cause: Cause,
        timeout: float = 10.0,
    ) -> Outcome:
        """Send and wait for the outcome; `timeout` in seconds.

        Raises the refusal as its own error, or Timeout: the command is then stored, and will be
        handled. Sending again with the same `command_id` has no second effect.
        """
        reply, future = self.bus.follow_up(timeout=timeout)
        try:
            await self._publish(command, id, command_id, cause, reply, timeout)
            outcome = _decode_outcome(await _within(future, command_id))
        finally:
            future.cancel()
        if outcome.problem is not None:
            raise from_problem(outcome.problem)
        return outcome

    async def post(
        self,
        command: msgspec.Struct,
        *,
        id: str,
        command_id: str,
        cause: Cause,
        timeout: float = 10,
    ) -> Accepted:
        """Send without waiting for the outcome: stored when this returns, also if the service is
        down. A refusal then becomes a dead letter.
        """
        await self._publish(command, id, command_id, cause, None, timeout)
        return Accepted(id=command_id, subject=id)

    async def _publish(
        self,
        command: msgspec.Struct,
        id: str,
        command_id: str,
        cause: Cause,
        reply: str | None,
        timeout: float,
    ) -> None:
        kind = type_of(type(command))
        subject = self.bus.subjects.command(kind.service, kind.name)
        with message_span("send", subject, kind=SpanKind.PRODUCER, id=command_id):
            envelope = wrap(
                command,
                id=command_id,
                subject=id,
                time=datetime.now(UTC),
                correlationid=cause.correlationid,
                cause=cause.event,
                actor=cause.actor,
                traceparent=traceparent(),
            )
            body = encode(envelope)
            # All commands share a stream, and a command's id counts within its aggregate.
            msg_id = f"{kind.service}:{token(id)}:{command_id}"
            ack = await self._store(subject, body, msg_id, reply, timeout)
            if ack.duplicate and reply:
                # The first copy answers, or answered, its own caller; this one wants an answer
                # too. The command's own id keeps it from having a second effect.
                again = f"{msg_id}:{uuid.uuid4().hex[:8]}"
                await self._store(subject, body, again, reply, timeout)

    async def _store(
        self, subject: str, body: bytes, msg_id: str, reply: str | None, timeout: float
    ) -> Ack:
        headers = {MSG_ID: msg_id}
        if reply:
            headers[REPLY] = reply
        stream = self.bus.subjects.stream("cmd")
        return await store(self.bus, stream, subject, body, headers, timeout=timeout)

    async def ask(
        self,
        service: str,
        name: str,
        question: Question,
        returns: type[T],
        *,
        timeout: float | None = None,
    ) -> tuple[T, Answer]:
        """Ask a view; the data as `returns`, and the answer that they came in.

        Raises the view's own error, Unavailable if the service does not run, or Timeout.
        """
        if timeout is None:
            timeout = self.bus.timeout + question.wait
        subject, body = self.bus.subjects.query(service, name), _encode(question)
        reply = await despite_lost_connections(
            lambda left: self._request(subject, body, left), timeout
        )
        answer = _decode_answer(reply)
        if answer.problem is not None:
            raise from_problem(answer.problem)
        return msgspec.json.decode(answer.data, type=returns), answer

    async def _request(self, subject: str, body: bytes, timeout: float) -> bytes:
        """Ask, and once more where nobody answers: a service may be connecting again just now."""
        try:
            return await self.bus.request(subject, body, timeout=timeout)
        except Timeout:
            raise
        except Unavailable:
            await asyncio.sleep(CONNECTING)
            return await self.bus.request(subject, body, timeout=timeout)


async def _within(future: asyncio.Future[list[Msg]], command_id: str) -> bytes:
    try:
        return (await future)[0].data
    except Timeout as error:
        raise Timeout(
            f"The command {command_id} is stored and will be handled, but its outcome did not "
            "come in time; is the service running?",
            command_id=command_id,
        ) from error
