"""An exception as it is kept in a job's history. Never raises."""

from __future__ import annotations

import traceback

from penstock.contracts.jobs import JobError

TRACEBACK = "__penstock_traceback__"  # the text of one from another process
MAX_MESSAGE, MAX_TRACEBACK = 4_000, 8_000  # characters of an error that are kept


def described(error: BaseException, *, trace: bool = True) -> JobError:
    """Class, message and, unless it would tell nothing of the handler, the traceback."""
    text = getattr(error, TRACEBACK, None) or "".join(traceback.format_exception(error))
    text = text if trace else ""
    return JobError(
        type=type(error).__name__,
        message=clean(str(error))[:MAX_MESSAGE],
        traceback=clean(text)[-MAX_TRACEBACK:],
    )


def clean(text: str) -> str:
    """Without lone surrogates, which JSON cannot carry."""
    return text.encode("utf-8", "replace").decode()
