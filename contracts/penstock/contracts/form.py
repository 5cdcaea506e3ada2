"""Writes many messages that differ in a few fields: what they have in common is encoded once.

Never anything else than the encoder would write, but that a default is written out if it is filled
in. Knows no message.
"""

from __future__ import annotations

import uuid
from typing import Any

import msgspec

_encode = msgspec.json.Encoder().encode


def hole() -> Any:
    """What stands in place of a field's value in the message that a form is made of."""
    return msgspec.Raw(b'"%b"' % uuid.uuid4().hex.encode())


class Form:
    """Of a message with holes.

    Raises ValueError unless each hole is in the encoded message once, in the order given here.
    """

    def __init__(self, message: msgspec.Struct, *holes: msgspec.Raw) -> None:
        parts, rest = list[bytes](), _encode(message)
        for each in holes:
            part, found, rest = rest.partition(bytes(each))
            if not found or bytes(each) in rest:
                raise ValueError("The holes of a form are in its message once and in their order.")
            parts.append(part)
        self._text = b"%b".join(part.replace(b"%", b"%%") for part in (*parts, rest))

    def fill(self, *values: bytes) -> bytes:
        """The encoded message, given the JSON of what belongs into each hole."""
        return self._text % values
