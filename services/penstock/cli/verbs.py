"""How the verbs of `penstock jobs`, `queues` and the like connect, read what they are given and
print. Never a verb itself.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from penstock.cli.connecting import TIMEOUT, connected
from penstock.cli.newest import NewestSession
from penstock.client.jobs import Jobs
from penstock.client.session import Session
from penstock.contracts.errors import InvalidMessage
from penstock.infra.settings import Settings

Verb = Callable[[argparse.Namespace, Session], Awaitable[int | None]]
JobsVerb = Callable[[argparse.Namespace, Jobs], Awaitable[int | None]]
Parsers = Any  # argparse's own type for this is private


def add_verb(verbs: Parsers, name: str, verb: JobsVerb, help: str) -> argparse.ArgumentParser:
    """A command below `jobs`; its exit status is what `verb` returns, 0 for None."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help, description=help)
    parser.add_argument("--json", action="store_true", help="as JSON, an object a line")
    parser.set_defaults(run=running(lambda options, session: verb(options, Jobs(session))))
    return parser


def running(verb: Verb) -> Callable[[argparse.Namespace, Settings], int]:
    """Runs a verb with a connection to the system; the exit status is what it returns, or 0."""

    async def connect_and_run(options: argparse.Namespace, settings: Settings) -> int:
        async with connected(settings) as bus:
            session = NewestSession(bus, actor=getpass.getuser(), timeout=TIMEOUT)
            return await verb(options, session) or 0

    return lambda options, settings: asyncio.run(connect_and_run(options, settings))


def print_json(found: Iterable[Any]) -> None:
    """An object a line."""
    for one in found:
        print(msgspec.json.encode(one).decode())


def payload(text: str) -> dict[str, Any]:
    """The fields of a JSON object. Raises InvalidMessage."""
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise InvalidMessage(
            f"The payload is not a JSON object such as '{{\"a\": 1}}': {error}."
        ) from error


def moment(text: str) -> datetime:
    """A time with its offset. Raises InvalidMessage."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidMessage(f"{text!r} is not a time such as 2026-01-31T09:30:00Z.")
    return found
