"""The pure domains that run in memory, by service. Loaded when a TestSystem begins, not before."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

import msgspec

from penstock.contracts.cache import InvalidateTag
from penstock.contracts.envelope import Envelope
from penstock.contracts.errors import StartupError
from penstock.infra.deciding.decider import Context


class Domain(msgspec.Struct, frozen=True):
    """One service: what is decided about a command, and what an event makes of a state.

    `commands` are those that are decided here and not in another way.
    """

    commands: tuple[type[msgspec.Struct], ...]
    decide: Callable[[Any, Any, Context], Sequence[msgspec.Struct]]
    evolve: Callable[[Any, Any, Envelope], Any]


def domains() -> Mapping[str, Domain]:
    """By the service's name. Raises StartupError where cronsim is not installed."""
    try:
        from penstock.jobs import domain as jobs
    except ModuleNotFoundError as error:
        if error.name != "cronsim":
            raise
        raise StartupError(
            "penstock.client.testing keeps schedules by cronsim, which is not installed; "
            "run: pip install 'penstock[jobs]'"
        ) from error
    from penstock.cache import domain as cache
    from penstock.notifications import domain as notifications
    from penstock.progress import domain as progress

    of_jobs = tuple(command for kind in jobs.KINDS for command in kind.commands)
    return {
        "jobs": Domain(of_jobs, jobs.decide, jobs.evolve),
        "progress": Domain(get_args(progress.Command), progress.decide, progress.evolve),
        "notifications": Domain(
            get_args(notifications.Command), notifications.decide, notifications.evolve
        ),
        "cache": Domain((InvalidateTag,), cache.decide, cache.evolve),
    }
