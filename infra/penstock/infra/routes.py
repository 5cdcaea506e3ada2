"""What a service answers over HTTP beyond its queries and commands, with its description."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

import msgspec
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Reply(msgspec.Struct, frozen=True):
    """What a status means here; `media_type` is its body's, None for none.

    `headers` maps the response's own headers to what they say.
    """

    meaning: str
    media_type: str | None = None
    headers: Mapping[str, str] = {}


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """`GET path`, and HEAD. `headers` are those of a request that it looks at, and what for.

    A refusal (404 and the like) that is a problem document needs no more than its status.
    """

    name: str
    path: str
    handler: Handler
    summary: str
    description: str = ""
    headers: Mapping[str, str] = {}
    replies: Mapping[int, Reply]
    problems: tuple[int, ...] = ()
