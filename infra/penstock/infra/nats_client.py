"""nats-py's client with a cheaper way to read headers, and one that ends when it is closed.

It changes nothing else that a caller sees.

The library looks at every character of every header's name, which was a third of what it costs to
receive an event: each carries what its append expected, and where it stood in its batch.
"""

from __future__ import annotations

import asyncio

from nats.aio.client import Client, Srv


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

    async def _connect_to_server(self, s: Srv) -> None:
        """As the library does, but not once it was closed.

        Until Python 3.12 `wait_for` can lose the cancellation by which `close` ends an attempt to
        reconnect; the library would then try for ever, and no event loop could end.
        """
        if self.is_closed and asyncio.current_task() is self._reconnection_task:
            raise asyncio.CancelledError
        await super()._connect_to_server(s)
