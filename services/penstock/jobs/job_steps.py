"""Which event took a job from one state to another, by its place in the stream: so that the counts
at a sequence are exact. Never reads an event.

Kept in blocks of sequences, each a few lines of text: counting backwards from now goes through the
blocks behind a sequence, and a step costs some bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, groupby

import apsw
import msgspec

from penstock.infra.views import rows
from penstock.jobs.job_moves import Steps

BLOCK = 256  # sequences
EXACT = 10_000_000  # sequences before the newest for which steps are kept, at most
SCHEMA = """
    CREATE TABLE steps (block INTEGER PRIMARY KEY, lines TEXT NOT NULL);
"""

# By queue, name and letter of a state.
Changes = dict[tuple[str, str, str], int]


# By queue, name and the letters of the states before and after: places.
Block = dict[tuple[str, str, str], set[int]]


class Line(msgspec.Struct, frozen=True, array_like=True):
    """The events of a block that did the same to jobs of one queue and name."""

    queue: str
    name: str
    letters: str
    places: tuple[int, ...]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Line).decode_lines


def add(db: apsw.Connection, steps: Steps) -> None:
    """Keep some more; one that is there already changes nothing.

    What a block holds in the end does not depend on how many came at a time.
    """
    blocks: dict[int, Block] = {}
    for of, sequences in steps.items():
        for block, found in groupby(sequences, key=BLOCK.__rfloordiv__):
            places = blocks.setdefault(block, {}).setdefault(of, set())
            places.update(sequence - block * BLOCK for sequence in found)
    for block, text in rows.select(db, "block, lines FROM steps WHERE block", blocks):
        for line in _decode(text):
            of = (line.queue, line.name, line.letters)
            blocks[block].setdefault(of, set()).update(line.places)
    texts = [(block, _text(lines)) for block, lines in blocks.items()]
    rows.insert(db, "OR REPLACE INTO steps", texts)


def _text(block: Block) -> str:
    lines = [Line(*of, tuple(sorted(places))) for of, places in sorted(block.items())]
    return b"\n".join(map(_encode, lines)).decode()


def taken_back(db: apsw.Connection, sequence: int) -> Changes:
    """What the counts of now have too much, or too little, for those after the event there."""
    found: Changes = {}
    blocks = "SELECT block, lines FROM steps WHERE block >= ?"
    for block, text in db.execute(blocks, (sequence // BLOCK,)):
        first = sequence - block * BLOCK + 1  # place
        for line, places in _after(_decode(text), first):
            for letter, change in _changes(line.letters):
                key = (line.queue, line.name, letter)
                found[key] = found.get(key, 0) - change * places
    return found


def thin_out(db: apsw.Connection) -> None:
    """Drop what is before the first second of the clock, or too far behind."""
    db.execute(
        f"""DELETE FROM steps WHERE block < max(
            (SELECT sequence FROM clock ORDER BY second LIMIT 1),
            (SELECT sequence FROM clock ORDER BY second DESC LIMIT 1) - {EXACT}) / {BLOCK}"""
    )


def _after(lines: list[Line], first: int) -> Iterable[tuple[Line, int]]:
    """How many events from the place `first` on there are of each line, every event once."""
    places = list(chain.from_iterable(line.places for line in lines))
    if first <= 0 and len(set(places)) == len(places):
        return [(line, len(line.places)) for line in lines]
    events = {place: line for line in lines for place in line.places if place >= first}
    return [(line, 1) for line in events.values()]


def _changes(letters: str) -> list[tuple[str, int]]:
    return [(letters[-1], 1), *((was, -1) for was in letters[:-1])]
