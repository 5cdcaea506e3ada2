"""One socket's side of the protocol: who it is, what it reads, whether it is still there.

Requests are taken one after the other, so that a client slows down only itself. Never writes
events: its subscriptions do.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import msgspec
from aiohttp import WSMsgType, web

from penstock.contracts import push
from penstock.contracts.errors import InvalidMessage, PenstockError, Unauthorized
from penstock.contracts.notifications import INBOX, channel_of, inbox_of
from penstock.contracts.push import Close, Code
from penstock.contracts.subjects import token as subject_token
from penstock.infra.auth import Identity, TokenExpired, Tokens
from penstock.notifications.admission import Visitor
from penstock.notifications.feed_log import FeedLog, Unrecoverable
from penstock.notifications.frames import PING, encode, text_frame
from penstock.notifications.hub import Hub
from penstock.notifications.limits import Limits
from penstock.notifications.outlet import Outlet
from penstock.notifications.subscription import Subscription

_decode = msgspec.json.Decoder(push.Request).decode


class Fault(Exception):  # noqa: N818 - errors are named for what happened
    """A request that fails; with `close` the socket ends with it."""

    def __init__(
        self, code: Code, msg: str, *, close: Close | None = None, temporary: bool = False
    ) -> None:
        super().__init__(msg)
        self.problem = push.Problem(code=code, msg=msg, temporary=temporary)
        self.close = close


class Connection:
    """Serves one socket from its first frame to its last."""

    def __init__(
        self,
        socket: web.WebSocketResponse,
        outlet: Outlet,
        visitor: Visitor,
        *,
        hub: Hub,
        feed_log: FeedLog,
        tokens: Tokens,
        limits: Limits,
    ) -> None:
        self.outlet = outlet
        self._socket = socket
        self._visitor = visitor
        self._hub = hub
        self._log = feed_log
        self._tokens = tokens
        self._limits = limits
        self._user: str | None = None
        self._reads: dict[str, Subscription] = {}
        self._pulse: asyncio.TimerHandle | None = None
        self._end: asyncio.TimerHandle | None = None

    async def serve(self) -> None:
        """Read to the end of the socket."""
        self._end = self._close_in(self._limits.to_connect, Close.STALE, "no connect in time")
        reading = asyncio.create_task(self._read())
        try:
            await asyncio.wait((reading, self.outlet.closing), return_when=asyncio.FIRST_COMPLETED)
        finally:
            reading.cancel()
            await asyncio.wait((reading,))
            self._let_go()
            await self.outlet.finish()
        if not reading.cancelled():
            reading.result()  # raises what went wrong, if anything did

    async def _read(self) -> None:
        async for line in self._lines():
            await self._take(line)

    def _let_go(self) -> None:
        for timer in (self._pulse, self._end):
            if timer:
                timer.cancel()
        for subscription in self._reads.values():
            subscription.end()

    async def _lines(self) -> AsyncIterator[str]:
        async for message in self._socket:
            if message.type is not WSMsgType.TEXT:
                self.outlet.close(Close.BAD_REQUEST, "frames are text")
                return
            for line in filter(None, message.data.split("\n")):
                yield line

    async def _take(self, line: str) -> None:
        request = push.Request()
        try:
            request = _request(line)
            await self._handle(request)
        except Fault as fault:
            self._reply(push.Reply(id=request.id, err=fault.problem))
            if fault.close:
                self.outlet.close(fault.close, fault.problem.msg)
        except PenstockError as error:
            failed = push.Problem(code=Code.INTERNAL, msg=error.detail, temporary=True)
            self._reply(push.Reply(id=request.id, err=failed))

    async def _handle(self, request: push.Request) -> None:
        if self._user is None or request.connect:
            self._connect(request)
        elif request.sub:
            await self._subscribe(request.id, request.sub, self._user)
        elif request.unsub:
            self._unsubscribe(request.id, request.unsub)
        elif request.pong:
            self._beat()
        elif request.ack:
            raise Fault(
                Code.NOT_AVAILABLE,
                "acks are not kept; keep your position and give it when you subscribe",
            )
        else:
            raise Fault(Code.BAD_REQUEST, "a request is one of connect, sub, unsub, ack, pong")

    # -- who it is, and whether it is there --------------------------------------------------

    def _connect(self, request: push.Request) -> None:
        connect = request.connect
        if connect is None or self._user is not None:
            what = "connect comes once" if connect else "the first frame is connect"
            raise Fault(Code.BAD_REQUEST, what, close=Close.BAD_REQUEST)
        if connect.ver != push.VERSION:
            what = f"the version here is {push.VERSION}, not {connect.ver}"
            raise Fault(Code.BAD_REQUEST, what, close=Close.BAD_REQUEST)
        identity = self._identity(connect.token)
        if not self._visitor.known_as(identity.user):
            what = f"{identity.user!r} has {self._limits.per_user} sockets open already"
            raise Fault(Code.LIMIT, what, close=Close.CONNECTION_LIMIT)
        self._user = identity.user
        left = (identity.expires - datetime.now(UTC)).total_seconds()
        if self._end:
            self._end.cancel()
        self._end = self._close_in(left, Close.EXPIRED, "the token expired; get a new one")
        self._beat()
        self._reply(
            push.Reply(
                id=request.id,
                connect=push.Connected(
                    client=uuid.uuid4().hex, ping=self._limits.ping, exp=max(0, int(left))
                ),
            )
        )

    def _identity(self, token: str) -> Identity:
        try:
            return self._tokens.check(token)
        except TokenExpired as error:
            raise Fault(Code.TOKEN_EXPIRED, error.detail, close=Close.EXPIRED) from error
        except Unauthorized as error:
            raise Fault(Code.UNAUTHORIZED, error.detail, close=Close.INVALID_TOKEN) from error

    def _beat(self) -> None:
        """It is there: ask again after a while."""
        if self._pulse:
            self._pulse.cancel()
        self._pulse = asyncio.get_running_loop().call_later(self._limits.ping, self._ping)

    def _ping(self) -> None:
        self.outlet.write(PING)
        self._pulse = self._close_in(self._limits.to_pong, Close.NO_PONG, "no pong in time")

    def _close_in(self, seconds: float, code: Close, reason: str) -> asyncio.TimerHandle:
        loop = asyncio.get_running_loop()
        return loop.call_later(seconds, self.outlet.close, code, reason)

    # -- what it reads -----------------------------------------------------------------------

    async def _subscribe(self, id: int | None, request: push.Subscribe, user: str) -> None:
        if request.ch in self._reads:
            raise Fault(Code.BAD_REQUEST, f"{request.ch!r} is subscribed already")
        if len(self._reads) >= self._limits.channels:
            raise Fault(Code.LIMIT, f"a socket has at most {self._limits.channels} channels")
        feed = _feed(request.ch, user)
        subscription = Subscription(self._hub, self._log, self.outlet, feed)
        try:
            answer = await subscription.begin(request)
        except Unrecoverable as error:
            subscription.end()
            raise Fault(Code.UNRECOVERABLE, error.detail) from error
        except BaseException:
            subscription.end()
            raise
        self._reads[request.ch] = subscription
        self._reply(push.Reply(id=id, sub=answer))
        subscription.run()

    def _unsubscribe(self, id: int | None, request: push.Channel) -> None:
        subscription = self._reads.pop(request.ch, None)
        if subscription is None:
            raise Fault(Code.BAD_REQUEST, f"{request.ch!r} is not subscribed")
        subscription.end()
        self._reply(push.Reply(id=id, unsub=request))

    def _reply(self, reply: push.Reply) -> None:
        self.outlet.write(text_frame(encode(reply)))


def _request(line: str) -> push.Request:
    try:
        return _decode(line)
    except msgspec.ValidationError as error:
        raise Fault(Code.BAD_REQUEST, f"not a request: {error}") from error
    except msgspec.DecodeError as error:
        raise Fault(Code.BAD_REQUEST, "frames are JSON", close=Close.BAD_REQUEST) from error


def _feed(channel: str, user: str) -> str:
    feed = inbox_of(user) if channel == INBOX else channel_of(channel)
    try:
        subject_token(feed)
    except InvalidMessage as error:
        raise Fault(Code.BAD_REQUEST, error.detail) from error
    if not channel:
        raise Fault(Code.BAD_REQUEST, "a channel has a name")
    return feed
