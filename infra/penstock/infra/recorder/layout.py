"""How the library's stored events and tracking records stand in a JetStream stream.

One literal subject an aggregate, one for each upstream application that is tracked. Bodies are
CloudEvents. Never any I/O.
"""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

import msgspec
from eventsourcing.persistence import Notification, StoredEvent

from penstock.contracts.envelope import invalid
from penstock.contracts.subjects import Subjects, token
from penstock.infra.bus import Stored
from penstock.infra.follower import Followed

Id = UUID | str


class Body(msgspec.Struct, frozen=True, kw_only=True):
    """A stored event as a CloudEvents 1.0 event in JSON; the state is bytes, so in base64."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    version: int
    data_base64: bytes


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Body).decode


class Layout:
    """The names and bodies of one recorder's stream; `to_id` makes an aggregate's id of its text.

    `name` is the recorder's, among those under the prefix of `subjects`.
    """

    def __init__(self, subjects: Subjects, name: str, to_id: Callable[[str], Id]) -> None:
        root = f"{subjects.prefix}.rec.{token(name)}"
        self.stream = f"{subjects.stream('rec')}_{token(name)}"
        self.events = f"{root}.event.*"
        self.trackings = f"{root}.tracking.*"
        self._source = f"/{subjects.prefix}/recorder/{token(name)}"
        self._to_id = to_id

    def subject(self, id: Id) -> str:
        """Where an aggregate's events stand. Raises InvalidMessage if it cannot be an id."""
        return self.events[:-1] + token(str(id))

    def tracking(self, application: str) -> str:
        """Where the last position of an upstream application stands."""
        return self.trackings[:-1] + token(application)

    def body(self, event: StoredEvent) -> bytes:
        """A stored event as it goes on the wire."""
        id = str(event.originator_id)
        return _encode(
            Body(
                id=f"{id}/{event.originator_version}",
                source=self._source,
                type=event.topic,
                subject=id,
                version=event.originator_version,
                data_base64=event.state,
            )
        )

    def event(self, message: Stored | Followed) -> StoredEvent:
        """The stored event in a message. Raises InvalidMessage."""
        body = read_body(message.data)
        return StoredEvent(self._to_id(body.subject), body.version, body.type, body.data_base64)

    def notification(self, message: Stored | Followed) -> Notification:
        """The same with its place in the stream."""
        body = read_body(message.data)
        return Notification(
            originator_id=self._to_id(body.subject),
            originator_version=body.version,
            topic=body.type,
            state=body.data_base64,
            id=message.sequence,
        )


def read_body(data: bytes) -> Body:
    """The body of a message. Raises InvalidMessage."""
    try:
        return _decode(data)
    except msgspec.DecodeError as error:
        raise invalid(error, "The stored event") from error
