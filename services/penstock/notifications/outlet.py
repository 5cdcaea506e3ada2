"""The sending half of one socket: frames out, in bounds, and the close. Never reads.

What waits for a slow client waits in the transport's buffer, whose size is bounded here: there is
no queue and no task beside it. A client beyond the bound is closed and catches up from the log.
"""

from __future__ import annotations

import asyncio

from aiohttp import WSMsgType, web

from penstock.contracts.push import Close


class Outlet:
    """Writes to one socket; after `close` nothing is written any more.

    `bound`: bytes that may wait for the client. `to_close`: seconds it has to answer a close.
    """

    def __init__(
        self,
        socket: web.WebSocketResponse,
        transport: asyncio.Transport,
        *,
        bound: int,
        to_close: float,
    ) -> None:
        self._socket = socket
        self._transport = transport
        self._bound = bound
        self._to_close = to_close
        self._closing: asyncio.Task[None] | None = None

    def write(self, frames: bytes) -> None:
        """Write whole frames now; closes the socket if its client is too slow for them."""
        if self._closing is not None or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > self._bound:
            self.close(Close.SLOW, "too slow; connect again and go on from your position")
            return
        self._transport.write(frames)

    async def pace(self, message: bytes) -> None:
        """Send a message at the client's pace. Raises ConnectionResetError if it is gone."""
        await self._socket.send_frame(message, WSMsgType.TEXT)

    def close(self, code: Close, reason: str) -> None:
        """Begin to close; the first reason counts."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, reason))

    async def closed(self) -> None:
        """Wait for the end of a close that was begun."""
        if self._closing is not None:
            await self._closing

    async def _close(self, code: Close, reason: str) -> None:
        try:
            async with asyncio.timeout(self._to_close):
                await self._socket.close(code=code, message=reason.encode(), drain=False)
        except TimeoutError:
            pass  # the client does not answer; its connection is cut below
        finally:
            # A transport that is closed with a full buffer waits for its client for ever.
            if self._transport.get_write_buffer_size():
                self._transport.abort()
