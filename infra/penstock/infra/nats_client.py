"""nats-py's client with a cheaper way to read headers. It changes nothing that a caller sees.

The library looks at every character of every header's name, which was a third of what it costs to
receive an event: each carries what its append expected, and where it stood in its batch.
"""

from __future__ import annotations

from nats.aio.client import Client


class NatsClient(Client):
    """Takes the place of the library's `Client`."""

    @staticmethod
    def _parse_header_lines(raw: bytes) -> dict[str, str]:
        """The headers in the lines behind the first one; what has no colon is left out."""
        headers: dict[str, str] = {}
        for line in raw.decode("utf-8", "replace").split("\r\n"):
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip()] = value.strip()
        return headers
