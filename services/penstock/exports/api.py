"""The file of an export over HTTP: in ranges, resumable, never half without saying so.

Never renders: a file that is not there yet is refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from penstock.contracts.errors import ExportFailed, NotFound, PenstockError, Refused
from penstock.contracts.exports import ExportFile, ExportState
from penstock.exports.domain import State
from penstock.exports.filenames import content_disposition
from penstock.exports.ranges import Part, matches, wanted
from penstock.infra.objects import Objects
from penstock.infra.routes import Handler, Reply, Route
from penstock.infra.views.live_view import LiveView

_FILE = {
    "ETag": "the SHA-256 of the whole file",
    "Content-Disposition": "a name that is safe to save it under",
}
_PART = {**_FILE, "Content-Range": "which bytes these are"}
REPLIES: Mapping[int, Reply] = {
    200: Reply("The file.", "*/*", _FILE),
    206: Reply("The part of it that Range asked for.", "*/*", _PART),
    304: Reply("It is the one that If-None-Match names.", None, _FILE),
    416: Reply("It has no such bytes.", None, {"Content-Range": "its size"}),
}


def file_route(model: LiveView[State], objects: Objects) -> Route:
    """`GET /exports/{id}/file`."""
    return Route(
        name="file",
        path="/exports/{id}/file",
        handler=file_handler(model, objects),
        summary="The file of a completed export",
        description="In ranges: with If-Range a broken download goes on where it stopped. A "
        "connection that breaks is the only sign that a file, once begun, is not whole.",
        headers={
            "Range": "which bytes, such as `bytes=1000-`",
            "If-Range": "the ETag of the part that is there already",
            "If-None-Match": "the ETag of the file that is there already",
        },
        replies=REPLIES,
        problems=(404, 409, 424, 500, 503, 504),
    )


def file_handler(model: LiveView[State], objects: Objects) -> Handler:
    """Answers `GET /exports/{id}/file`: 200, 206, 304, 404, 409 before the end, 416, 424 if failed.

    The ETag is the SHA-256: with If-Range a broken download goes on where it stopped.
    """

    async def handle(request: web.Request) -> web.StreamResponse:
        file = await _file(model, request.match_info["id"])
        etag = f'"{file.sha256}"'
        given = request.headers
        headers = _headers(file, etag)
        if matches(etag, given.get("If-None-Match")):
            return web.Response(status=304, headers=headers)
        part = wanted(file.size, etag, range=given.get("Range"), if_range=given.get("If-Range"))
        if part is None:
            outside = {"Content-Range": f"bytes */{file.size}"}
            return web.Response(status=416, headers=outside)
        return await _send(request, objects, file, part, headers)

    return handle


async def _file(model: LiveView[State], id: str) -> ExportFile:
    _, found = await model.read(model.aggregate, id)
    state = found[1] if found else None
    if not isinstance(state, ExportState):
        raise NotFound(f"There is no export {id!r}.", id=id)
    if state.error is not None:
        raise ExportFailed(state.error, id=id)
    if state.file is None:
        raise Refused(f"The export {id!r} is {state.state}; its file comes when it is completed.")
    return state.file


def _headers(file: ExportFile, etag: str) -> dict[str, str]:
    return {
        "ETag": etag,
        "Accept-Ranges": "bytes",
        "Cache-Control": "private, no-cache",  # may be kept, and is asked for again by its ETag
        "Content-Disposition": content_disposition(file.filename),
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "sandbox",
    }


async def _send(
    request: web.Request, objects: Objects, file: ExportFile, part: Part, headers: dict[str, str]
) -> web.StreamResponse:
    stored = await objects.info(file.object)
    if stored.sha256 != file.sha256:
        raise NotFound(f"The file {file.filename!r} was replaced; export it again.")
    if part.partial:
        headers = {**headers, "Content-Range": part.content_range}
    response = web.StreamResponse(status=206 if part.partial else 200, headers=headers)
    response.headers["Content-Type"] = file.media_type
    response.content_length = part.stop - part.start
    await response.prepare(request)
    if request.method != "HEAD":
        try:
            async for piece in objects.read(stored, start=part.start, stop=part.stop):
                await response.write(piece)
        except PenstockError:
            # The head has been sent: only a broken connection says that the file is not whole.
            if request.transport:
                request.transport.abort()
            raise
    await response.write_eof()
    return response
