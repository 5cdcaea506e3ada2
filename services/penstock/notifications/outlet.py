"""The sending half of one socket: frames out, in bounds, and the close. Never reads.

What waits for a slow client waits in the transport's buffer, whose size is bounded here: there is
no queue and no task beside it. A client beyond the bound is closed and catches up from the log.
"""

from __future__ import annotations

import asyncio
import logging

from aiohttp import WSMsgType, web

from penstock.contracts.push import Close

log = logging.getLogger(__name__)


class Outlet:
    """Writes to one socket; after `close` nothing is written any more.

    `bound`: bytes that may wait for the client. `to_close`: seconds it has to answer a close.
    `closing` is done as soon as the socket is to be closed.
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
        self.closing: asyncio.Future[tuple[Close, str]] = asyncio.get_running_loop().create_future()

    def write(self, frames: bytes) -> None:
        """Write whole frames now; closes the socket if its client is too slow for them."""
        if self.closing.done() or self._transport.is_closing():
            return
        if self._transport.get_write_buffer_size() > self._bound:
            self.close(Close.SLOW, "too slow; connect again and go on from your position")
            return
        self._transport.write(frames)

    async def pace(self, message: bytes) -> None:
        """Send a message at the client's pace. Raises ConnectionResetError if it is gone."""
        await self._socket.send_frame(message, WSMsgType.TEXT)

    def close(self, code: Close, reason: str) -> None:
        """Let the socket be closed; the first reason counts."""
        if not self.closing.done():
            self.closing.set_result((code, reason))

    async def finish(self) -> None:
        """Close it, if it is to be closed. Nobody may read from the socket meanwhile.

        aiohttp would otherwise end the connection before the client has read the close.
        """
        if not self.closing.done():
            return
        code, reason = self.closing.result()
        try:
            async with asyncio.timeout(self._to_close):
                await self._socket.close(code=code, message=reason.encode(), drain=False)
        except TimeoutError:
            log.debug("a client did not answer the close %s", code)
        finally:
            # A transport that is closed with a full buffer waits for its client for ever.
            if self._transport.get_write_buffer_size():
                self._transport.abort()
