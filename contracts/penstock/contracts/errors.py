"""Every error that Penstock raises or answers with: one tree, each with its HTTP status.

An error crosses a process boundary as `Problem` (RFC 9457 problem details) and comes back as the
same class on the other side. This module never logs and never decides what happens next.
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec

TYPE_PREFIX = "urn:penstock:error:"


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """RFC 9457 problem details: what went wrong, in a form that a program can act on."""

    type: str
    title: str
    status: int
    detail: str
    instance: str | None = None
    fields: dict[str, Any] = {}


class PenstockError(Exception):
    """The root of the tree. `str(error)` is one sentence: what is wrong and what to do."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    status: ClassVar[int] = 500

    def __init__(self, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = fields

    def problem(self, instance: str | None = None) -> Problem:
        """This error as it travels."""
        return Problem(
            type=TYPE_PREFIX + self.code,
            title=self.title,
            status=self.status,
            detail=self.detail,
            instance=instance,
            fields=self.fields,
        )


class InvalidMessage(PenstockError):  # noqa: N818 - errors are named for what happened
    """A command, query or document does not have the form that its contract asks for."""

    code, title, status = "invalid-message", "Invalid message", 422


class NotFound(PenstockError):  # noqa: N818
    """Nothing by that id is known."""

    code, title, status = "not-found", "Not found", 404


class Erased(PenstockError):  # noqa: N818
    """There was something by that id; it was erased, and the id is never used again."""

    code, title, status = "erased", "Erased", 410


class Archived(PenstockError):  # noqa: N818
    """What there was by that id is in the archive; it takes no part in the present any more."""

    code, title, status = "archived", "Archived", 410


class Refused(PenstockError):  # noqa: N818
    """The command is well formed but not possible in the present state."""

    code, title, status = "refused", "Refused in this state", 409


class Duplicate(Refused):
    """There is a job with the same unique key already: the one with the id in the field `id`."""

    code, title, status = "duplicate", "There is such a job already", 409


class Conflict(PenstockError):  # noqa: N818
    """Somebody else changed the aggregate first; load it again and decide again."""

    code, title, status = "conflict", "Concurrent change", 409


class LeaseLost(Conflict):
    """The worker no longer holds the job: its outcome was not accepted."""

    code, title, status = "lease-lost", "Lease lost", 409


class Unauthorized(PenstockError):  # noqa: N818
    """The caller did not prove who they are."""

    code, title, status = "unauthorized", "Unauthorized", 401


class TooLarge(PenstockError):  # noqa: N818
    """The message or value exceeds what one message may hold."""

    code, title, status = "too-large", "Too large", 413


class Unavailable(PenstockError):  # noqa: N818
    """A part of the system cannot be reached now; trying again later may work."""

    code, title, status = "unavailable", "Unavailable", 503


class Timeout(Unavailable):
    """No answer came within the time given. What was asked may still have happened."""

    code, title, status = "timeout", "No answer in time", 504


class JobFailed(PenstockError):  # noqa: N818
    """`jobs.result` was asked for a job that failed or was cancelled."""

    code, title, status = "job-failed", "The job did not complete", 424


class ExportFailed(PenstockError):  # noqa: N818
    """`exports.export` ended without a file."""

    code, title, status = "export-failed", "The export did not complete", 424


class StartupError(PenstockError):
    """The system cannot start as configured; printed as one line, without a traceback."""

    code, title, status = "startup", "Cannot start", 500


def _tree(root: type[PenstockError]) -> dict[str, type[PenstockError]]:
    found = {root.code: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


def from_problem(problem: Problem) -> PenstockError:
    """The error that `problem` describes; an unknown type becomes a plain `PenstockError`."""
    code = problem.type.removeprefix(TYPE_PREFIX)
    return _tree(PenstockError).get(code, PenstockError)(problem.detail, **problem.fields)
