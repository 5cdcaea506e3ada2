"""What the server's replies mean: acknowledgements, stored messages, refusals. Never any I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from nats.aio.msg import Msg

from penstock.contracts.errors import InvalidMessage, PenstockError, Unavailable
from penstock.infra.inbox import status_of

# What a cluster answers while it elects a leader or a server starts or ends, by the server's own
# numbers: it was not done, and can be later.
_FOR_NOW = {
    10004,  # incomplete results
    10008,  # JetStream temporarily unavailable
    10009,  # not the leader
    10039,  # JetStream not enabled for the account: while a server starts or ends
    10076,  # JetStream not enabled
    10163,  # the expected last sequence cannot be looked at yet
    10202,  # a change of members is in progress
}
_NO_RESPONDERS = "503"
_NOTHING_FOUND = ("204", "404")


class StreamError(PenstockError):
    """JetStream refused a request; `err_code` is the server's own number for why."""

    code, title, status = "stream-error", "The stream refused", 502

    @property
    def err_code(self) -> int:
        """The server's number, such as 10071 for a wrong last sequence."""
        return int(self.fields.get("err_code", 0))


class _ApiError(msgspec.Struct):
    code: int = 0
    err_code: int = 0
    description: str = "no reason given"


class Ack(msgspec.Struct):
    """JetStream's word that a message is stored, and where; `count` of them if it was a batch."""

    stream: str = ""
    seq: int = 0
    duplicate: bool = False
    count: int = 0
    error: _ApiError | None = None


class Stored(msgspec.Struct, frozen=True):
    """A message as it stands in a stream; `pending` more match the same request behind it."""

    sequence: int
    subject: str
    data: bytes
    headers: Mapping[str, str]
    pending: int = 0


_decode_ack = msgspec.json.Decoder(Ack).decode


def ack_of(msg: Msg) -> Ack:
    """The acknowledgement in a reply. Raises StreamError for a refusal, or Unavailable."""
    if status_of(msg) == _NO_RESPONDERS:
        raise Unavailable(
            "No stream takes this subject; the system may not be provisioned yet: "
            "start it with `penstock up`."
        )
    try:
        ack = _decode_ack(msg.data)
    except msgspec.DecodeError as error:
        raise InvalidMessage("The server's acknowledgement is not JSON.") from error
    if ack.error is not None:
        raise _refusal("The stream refused the message", ack.error)
    return ack


def _refusal(what: str, error: _ApiError) -> PenstockError:
    """Unavailable for what passes by itself, StreamError for the rest."""
    if error.err_code in _FOR_NOW:
        return Unavailable(f"JetStream cannot do this now: {error.description}.")
    return StreamError(f"{what}: {error.description}.", err_code=error.err_code)


def content(msg: Msg, subject: str) -> bytes:
    """The body of a reply. Raises Unavailable if nobody was there to reply."""
    if status_of(msg) == _NO_RESPONDERS:
        raise Unavailable(f"Nobody answers on {subject}; is the service running?")
    return msg.data


def api_answer(msg: Msg, verb: str) -> Any:
    """The JSON in a reply to an API request. Raises StreamError for a refusal, or Unavailable."""
    answer = msgspec.json.decode(content(msg, f"$JS.API.{verb}"))
    if error := answer.get("error"):
        raise _refusal(f"JetStream refused {verb}", msgspec.convert(error, _ApiError))
    return answer


def stored(replies: list[Msg]) -> list[Stored]:
    """The messages in the replies to a Direct Get; a status that ends a batch is none of them.

    Raises Unavailable, or StreamError for any status but an end or nothing found.
    """
    status = status_of(replies[-1])
    if status is None:
        return [_stored(msg) for msg in replies]
    if status in _NOTHING_FOUND:
        return [_stored(msg) for msg in replies[:-1]]
    if status == _NO_RESPONDERS:
        raise Unavailable(
            "JetStream does not answer here; is the stream there and has it a leader?"
        )
    reason = (replies[-1].headers or {}).get("Description", "")
    raise StreamError(f"JetStream answered {status} {reason}.", err_code=int(status))


def _stored(msg: Msg) -> Stored:
    headers = msg.headers or {}
    return Stored(
        int(headers["Nats-Sequence"]),
        headers["Nats-Subject"],
        msg.data,
        headers,
        int(headers.get("Nats-Num-Pending", 0)),
    )
