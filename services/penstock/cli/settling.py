"""`penstock dead redrive` and `discard`: letters settled page by page, and counted.

Never holds more than a page; what an interruption leaves is there the next time.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic

import msgspec
from rich.console import Console
from rich.status import Status

from penstock.contracts.dead import Found, Letters, Settled
from penstock.contracts.errors import NotFound, PenstockError
from penstock.infra.bus import Bus
from penstock.infra.dead_letters.office import DeadLetterOffice
from penstock.infra.dead_letters.redriving import Redriving

EVERY = 5.0  # seconds between two lines of progress where there is no terminal
Settle = Callable[[Sequence[Found]], Awaitable[list[Settled]]]
SettleAll = Callable[[Letters, int], AsyncIterator[list[Settled]]]


async def redrive(options: argparse.Namespace, bus: Bus) -> int:
    """Redrive what the options select; 1 if a letter stays."""
    which = _asked_for(options)
    redriving = Redriving(bus)
    pages = _pages(options, bus, which, redriving.redrive, redriving.redrive_all)
    return await _settle(pages, options, "redriven")


async def discard(options: argparse.Namespace, bus: Bus) -> int:
    """Discard what the options select, once that is confirmed."""
    which = _asked_for(options)
    if not options.yes and not _confirmed(options, which):
        print("Nothing was discarded.")
        return 1
    redriving = Redriving(bus)
    pages = _pages(options, bus, which, redriving.discard, redriving.discard_all)
    return await _settle(pages, options, "discarded")


def selection(options: argparse.Namespace) -> Letters:
    """The letters that the filters of a command line ask for."""
    return Letters(
        service=options.service or "",
        kind=options.kind,
        reason=options.reason,
        aggregate=options.aggregate,
    )


def _asked_for(options: argparse.Namespace) -> Letters:
    which = selection(options)
    ways = [bool(options.numbers), options.all, which != Letters()]
    if sum(ways) != 1:
        raise PenstockError(
            "Say which letters: their numbers, or filters such as --service, or --all."
        )
    return which


def _confirmed(options: argparse.Namespace, which: Letters) -> bool:
    if not sys.stdin.isatty():
        raise PenstockError("What is discarded is gone for good; say --yes to do it unasked.")
    filters = msgspec.to_builtins(which)
    what = ", ".join(f"{name} {value}" for name, value in filters.items()) or "every one"
    if options.numbers:
        what = ", ".join(map(str, options.numbers))
    return input(f"Discard dead letters for good ({what})? [y/N] ").strip().lower() == "y"


async def _pages(
    options: argparse.Namespace, bus: Bus, which: Letters, settle: Settle, settle_all: SettleAll
) -> AsyncIterator[list[Settled]]:
    if not options.numbers:
        async for settled in settle_all(which, options.limit):
            yield settled
        return
    office = DeadLetterOffice(bus)
    numbers = sorted(set(options.numbers))[: options.limit or None]
    for number in numbers:
        try:
            found = await office.show(number)
        except NotFound as error:
            yield [Settled(number=number, left=str(error))]
        else:
            yield await settle([found])


async def _settle(
    pages: AsyncIterator[list[Settled]], options: argparse.Namespace, done: str
) -> int:
    count = left = 0
    try:
        with _progress() as tell:
            async for page in pages:
                for settled in page:
                    _say(settled, options)
                staying = sum(settled.left is not None for settled in page)
                count, left = count + len(page) - staying, left + staying
                tell(f"{count} {done}, {left} left")
    finally:
        print(f"{count} {done}, {left} left.", file=sys.stderr if options.json else sys.stdout)
    return 1 if left else 0


def _say(settled: Settled, options: argparse.Namespace) -> None:
    if options.json:
        print(msgspec.json.encode(settled).decode())
    elif settled.left:
        print(f"penstock: {settled.number} stays: {settled.left}", file=sys.stderr)


@contextmanager
def _progress() -> Iterator[Callable[[str], None]]:
    """Say how far it is: in place on a terminal, elsewhere as a line from time to time."""
    console = Console(stderr=True)
    said = monotonic()

    def line(text: str) -> None:
        nonlocal said
        if monotonic() - said > EVERY:
            said = monotonic()
            print(text, file=sys.stderr, flush=True)

    if not console.is_terminal:
        yield line
        return
    with Status("...", console=console) as status:
        yield status.update
