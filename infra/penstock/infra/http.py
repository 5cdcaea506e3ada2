"""HTTP over commands and queries: routes, problem details, health, metrics. Never any domain.

Errors: RFC 9457. A command over HTTP goes the same way as any other: onto the bus.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from aiohttp import web
from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from penstock.contracts.answers import Accepted
from penstock.contracts.envelope import invalid, newest, type_of
from penstock.contracts.errors import InvalidMessage, NotFound, PenstockError, Problem
from penstock.contracts.registry import MESSAGES, MessageType
from penstock.infra.dead_letters.endpoints import dead_letter_endpoints
from penstock.infra.openapi import document
from penstock.infra.queries import Endpoint
from penstock.infra.routes import Handler
from penstock.infra.sender import LONGEST_WAIT, Cause, Sender
from penstock.infra.service import Service

log = logging.getLogger(__name__)

SEQUENCE = "Penstock-Sequence"  # the header with what an answer from a view reflects
MAX_BODY = 8 * 1024 * 1024
_encode = msgspec.json.Encoder().encode


class PostCommand(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `POST /commands/<service>/<verb>`.

    `id` is the aggregate. Sending again with the same `command_id` has no second effect.
    `version` is the form that `data` has, the newest unless it is given.
    """

    id: str
    data: msgspec.Raw = msgspec.Raw(b"{}")
    version: int | None = None
    command_id: str | None = None
    correlation_id: str | None = None
    actor: str | None = None


def make_app(
    services: Sequence[Service[Any]], sender: Sender, problems: Callable[[], dict[str, list[str]]]
) -> web.Application:
    """The application of one process. `problems` tells for each part why it is not ready."""
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_problem_details])
    gateway = CommandGateway(sender)
    dead = dead_letter_endpoints(sender.bus)
    spec = _encode(document(services, title="Penstock", process=dead))
    app.add_routes(
        [
            web.get("/health/live", _live),
            web.get("/health/ready", _ready(problems)),
            web.get("/metrics", _metrics),
            web.get("/openapi.json", _fixed(spec)),
            web.post("/commands/{service}/{verb}", gateway.post),
        ]
    )
    for service in services:
        app.add_routes([web.get(route.path, route.handler) for route in service.routes])
        app.on_shutdown.extend(service.on_shutdown)
    for endpoint in [*(e for s in services for e in s.endpoints), *dead]:
        if endpoint.path is not None:
            app.router.add_route(endpoint.method, endpoint.path, _query(endpoint))
    return app


class CommandGateway:
    """Puts commands from HTTP onto the bus."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    async def post(self, request: web.Request) -> web.Response:
        """202 once stored; with `?wait=<seconds>` 200 and the outcome, or the refusal."""
        kind = _command(request.match_info["service"], request.match_info["verb"])
        body = _decoded(await request.read(), PostCommand, "The body")
        command = _data(body, kind)
        wait = _seconds(request.query.get("wait", "0"))
        command_id = body.command_id or uuid.uuid4().hex
        cause = Cause(correlationid=body.correlation_id or command_id, actor=body.actor)
        if wait:
            outcome = await self._sender.send(
                command, id=body.id, command_id=command_id, cause=cause, timeout=wait
            )
            return _json(outcome)
        await self._sender.post(command, id=body.id, command_id=command_id, cause=cause)
        return _json(Accepted(id=command_id, subject=body.id), status=202)


def _command(service: str, verb: str) -> MessageType:
    known = newest(service, "command")
    if verb not in known:
        what = f"has no command {verb!r}; it has {', '.join(sorted(known))}"
        raise NotFound(f"{service!r} {what}." if known else f"There is no service {service!r}.")
    return type_of(known[verb])


def _data(body: PostCommand, newest: MessageType) -> Any:
    kind = f"{newest.unversioned}.v{body.version or newest.version}"
    reader = MESSAGES.readers.get(kind)
    if reader is None:
        raise MESSAGES.unknown(kind)
    try:
        return reader(body.data)
    except msgspec.DecodeError as error:
        raise invalid(error, kind, root="$.data") from error


def _decoded(body: bytes, struct: type[Any], what: str) -> Any:
    try:
        return msgspec.json.decode(body, type=struct)
    except msgspec.DecodeError as error:
        raise invalid(error, what) from error


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1
    if not 0 <= seconds <= LONGEST_WAIT:
        raise InvalidMessage(f"wait={text!r} is not a number of seconds from 0 to 30.", path="wait")
    return seconds


def _query(endpoint: Endpoint) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        given: dict[str, Any] = {**request.query, **request.match_info}
        if endpoint.method == "POST":
            given |= _decoded(await request.read() or b"{}", dict, "The body")
        try:
            params = msgspec.convert(given, endpoint.params, strict=False)
        except msgspec.ValidationError as error:
            raise invalid(error, f"The query {endpoint.name}") from error
        answer = await endpoint.ask(params)
        headers = {SEQUENCE: str(answer.sequence)}
        if answer.held:
            headers["Penstock-Held"] = str(answer.held)
        return _json(answer, headers=headers)

    return handle


@web.middleware
async def _problem_details(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except PenstockError as error:
        told = {SEQUENCE: str(error.fields["sequence"])} if "sequence" in error.fields else None
        return _problem(error.problem(request.path), headers=told)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _problem(
            Problem(
                type="about:blank",
                title=error.reason,
                status=error.status,
                detail=f"{request.method} {request.path}: {error.reason}.",
                instance=request.path,
            ),
            headers={k: v for k, v in error.headers.items() if k == "Allow"},
        )
    except Exception as error:
        log.exception("%s %s failed", request.method, request.path)
        failed = PenstockError(f"The request failed: {type(error).__name__}; see the log.")
        return _problem(failed.problem(request.path))


def _problem(problem: Problem, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=_encode(problem),
        status=problem.status,
        content_type="application/problem+json",
        headers=headers,
    )


def _json(data: Any, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(
        body=_encode(data), status=status, content_type="application/json", headers=headers
    )


async def _live(_: web.Request) -> web.Response:
    return _json({"status": "ok"})


def _ready(problems: Callable[[], dict[str, list[str]]]) -> Handler:
    async def ready(_: web.Request) -> web.Response:
        found = problems()
        bad = any(found.values())
        return _json(
            {"status": "not ready" if bad else "ok", "problems": found}, status=503 if bad else 200
        )

    return ready


async def _metrics(request: web.Request) -> web.Response:
    encode, content_type = choose_encoder(request.headers.get("Accept", ""))
    return web.Response(body=encode(REGISTRY), headers={"Content-Type": content_type})


def _fixed(body: bytes) -> Handler:
    async def fixed(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return fixed
