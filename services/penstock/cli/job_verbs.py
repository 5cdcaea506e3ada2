"""How the verbs of `penstock jobs` connect, read their arguments and print. Never a verb itself."""

from __future__ import annotations

import argparse
import asyncio
import getpass
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime
from typing import Any

import msgspec

from penstock.cli.connecting import TIMEOUT, connected
from penstock.client.jobs import Jobs
from penstock.client.session import Session
from penstock.contracts.errors import InvalidMessage
from penstock.infra.settings import Settings

Verb = Callable[[argparse.Namespace, Jobs], Awaitable[int | None]]
Parsers = Any  # argparse's own type for this is private


def add_verb(verbs: Parsers, name: str, verb: Verb, help: str) -> argparse.ArgumentParser:
    """A command below `jobs`; its exit status is what `verb` returns, 0 for None."""
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=help, description=help)
    parser.add_argument("--json", action="store_true", help="as JSON, an object a line")
    parser.set_defaults(run=lambda options, settings: run(verb, options, settings))
    return parser


def run(verb: Verb, options: argparse.Namespace, settings: Settings) -> int:
    """Run a verb with a connection to the system."""

    async def connect_and_run() -> int:
        async with connected(settings) as bus:
            session = Session(bus, actor=getpass.getuser(), timeout=TIMEOUT)
            return await verb(options, Jobs(session)) or 0

    return asyncio.run(connect_and_run())


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
