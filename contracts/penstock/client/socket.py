"""A socket to the gateway that lasts: it connects again and goes on from where it was.

Speaks `penstock.v1.json`. Gives each event once and in order; never skips one: where the gateway
cannot give what follows, it raises. Needs aiohttp, the extra `websocket`.
"""

from __future__ import annotations

import logging
import random
from asyncio import sleep
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.contracts import push
from penstock.contracts.errors import (
    InvalidMessage,
    NotFound,
    PenstockError,
    Refused,
    StartupError,
    Unauthorized,
    Unavailable,
)

if TYPE_CHECKING:
    from aiohttp import ClientSession, ClientWebSocketResponse

log = logging.getLogger(__name__)

SHORTEST, LONGEST = 0.5, 20.0  # seconds before connecting again
GRACE = 10.0  # seconds that a ping may be late before the gateway counts as gone
WELCOME = 10.0  # seconds that the gateway has to answer a connect
TOO_MANY_REQUESTS = 429

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(push.Reply).decode

FINAL: dict[int, type[PenstockError]] = {
    push.Code.UNAUTHORIZED: Unauthorized,
    push.Code.DENIED: Unauthorized,
    push.Code.LIMIT: Refused,
    push.Code.UNRECOVERABLE: Refused,
    push.Close.INVALID_TOKEN: Unauthorized,
    push.Close.DENIED: Unauthorized,
    push.Close.CONNECTION_LIMIT: Refused,
    push.Close.BAD_REQUEST: InvalidMessage,
}


class Dropped(Exception):  # noqa: N818 - errors are named for what happened
    """The connection ended in a way that connecting again may mend."""


class PushSocket:
    """Reads channels for one user. `positions`: the last sequence already known, None for none.

    `get_token` gives a fresh access token for each connection. `url` is that of the HTTP API.
    Raises StartupError if aiohttp is not installed.
    """

    def __init__(
        self,
        url: str,
        get_token: Callable[[], Awaitable[str]],
        positions: Mapping[str, int | None],
    ) -> None:
        self._url = url.rstrip("/") + push.PATH
        self._get_token = get_token
        self._positions = dict(positions)
        self._epoch: str | None = None
        self._attempt = 0
        self._aiohttp = _aiohttp()

    async def events(self) -> AsyncGenerator[push.Event, None]:
        """Every event behind the positions, then each as it comes; never ends by itself.

        Raises Refused if what follows a position is gone, or the limits of the gateway are
        reached, Unauthorized if it does not take the token, NotFound if the URL has no gateway.
        """
        async with self._aiohttp.ClientSession() as http:
            while True:
                try:
                    async with aclosing(self._connected(http)) as events:
                        async for event in events:
                            yield event
                except (Dropped, Unavailable, self._aiohttp.ClientError, TimeoutError) as error:
                    log.warning(
                        "connecting to %s again: %s", self._url, error or type(error).__name__
                    )
                await sleep(self._pause())

    def _pause(self) -> float:
        """Full jitter, so that clients who lost one gateway do not come back all at once."""
        longest = min(LONGEST, SHORTEST * 2 ** min(self._attempt + 1, 10))
        self._attempt += 1
        return random.uniform(SHORTEST, longest)

    async def _connected(self, http: ClientSession) -> AsyncGenerator[push.Event, None]:
        token = await self._get_token()
        async with await self._open(http) as socket:
            await self._greet(socket, token)
            patience = WELCOME
            while True:
                for reply in await self._receive(socket, patience):
                    if reply.err:
                        raise _failure(reply.err)
                    if reply.connect:
                        patience = reply.connect.ping + GRACE
                    elif reply.sub:
                        self._subscribed(reply.id, reply.sub)
                    elif reply.ping:
                        await self._send(socket, push.Request(pong=push.Empty()))
                    elif reply.ev and self._is_next(reply.ev):
                        yield reply.ev

    async def _open(self, http: ClientSession) -> ClientWebSocketResponse:
        try:
            return await http.ws_connect(
                self._url,
                protocols=(push.PROTOCOL,),
                max_msg_size=push.MAX_FRAME,
                timeout=self._aiohttp.ClientWSTimeout(ws_close=2.0),
            )
        except self._aiohttp.WSServerHandshakeError as error:
            if error.status >= 500 or error.status == TOO_MANY_REQUESTS:
                raise Dropped(str(error)) from error
            raise NotFound(
                f"There is no gateway at {self._url} (status {error.status}); "
                "correct the http_url given to Penstock, or PENSTOCK_HTTP_URL."
            ) from error

    async def _greet(self, socket: ClientWebSocketResponse, token: str) -> None:
        """Say who it is and what it reads, all in one frame: one round trip."""
        requests = [push.Request(id=0, connect=push.Connect(token=token))]
        for id, (channel, position) in enumerate(self._positions.items(), 1):
            epoch = None if position is None else self._epoch
            sub = push.Subscribe(ch=channel, epoch=epoch, seq=position)
            requests.append(push.Request(id=id, sub=sub))
        await self._send(socket, *requests)

    async def _send(self, socket: ClientWebSocketResponse, *requests: push.Request) -> None:
        await socket.send_str(b"\n".join(map(_encode, requests)).decode())

    async def _receive(self, socket: ClientWebSocketResponse, patience: float) -> list[push.Reply]:
        message = await socket.receive(timeout=patience)
        if message.type is not self._aiohttp.WSMsgType.TEXT:
            raise _ended(socket.close_code, message.extra)
        return [_decode(line) for line in message.data.split("\n") if line]

    def _subscribed(self, id: int | None, sub: push.Subscribed) -> None:
        channel = list(self._positions)[(id or 0) - 1]
        if self._positions[channel] is None:
            self._positions[channel] = sub.origin
        self._epoch = sub.epoch
        self._attempt = 0

    def _is_next(self, event: push.Event) -> bool:
        """False for an event known already. Raises Dropped if one before it is missing."""
        known = self._positions[event.ch]
        if known is None or event.prev > known:
            raise Dropped(f"an event of {event.ch} between {known} and {event.seq} is missing")
        if event.seq <= known:
            return False
        self._positions[event.ch] = event.seq
        return True


def _failure(problem: push.Problem) -> Exception:
    if problem.temporary or problem.code == push.Code.TOKEN_EXPIRED:
        return Dropped(problem.msg)
    return FINAL.get(problem.code, PenstockError)(f"The gateway answers: {problem.msg}.")


def _ended(code: int | None, reason: str | None) -> Exception:
    if code in set(push.Close) and push.Close(code).is_final:
        return FINAL.get(code, PenstockError)(f"The gateway closed the socket: {reason or code}.")
    return Dropped(f"closed with {code} {reason or ''}")


def _aiohttp() -> Any:
    try:
        import aiohttp
    except ImportError as error:
        raise StartupError(
            "Listening needs aiohttp, which is not installed: pip install 'penstock[websocket]'."
        ) from error
    return aiohttp
