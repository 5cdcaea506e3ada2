"""What many say to one receiver at about the same time goes together, and nothing of it is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from penstock.contracts.errors import Unavailable
from penstock.infra.gathering import Gathering


class Receivers:
    """They keep what they are sent; each message arrives once `open` is set."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, list[int]]] = []
        self.open = asyncio.Event()
        self.failures = 0

    async def send(self, receiver: str, said: Sequence[int]) -> None:
        await self.open.wait()
        if self.failures:
            self.failures -= 1
            raise Unavailable("Nobody is there.")
        self.heard.append((receiver, list(said)))


def says(gathering: Gathering[int], receiver: str, *numbers: int) -> list[asyncio.Task[None]]:
    return [asyncio.create_task(gathering.say(receiver, number)) for number in numbers]


async def rounds() -> None:
    """Let all that can go on without the receivers do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_what_comes_in_one_round_goes_together_to_each_receiver() -> None:
    there = Receivers()
    there.open.set()
    gathering = Gathering(there.send, most=10)
    await asyncio.gather(*says(gathering, "a", 1, 2, 3), *says(gathering, "b", 4))
    assert there.heard == [("a", [1, 2, 3]), ("b", [4])]


async def test_what_comes_while_a_message_is_on_its_way_goes_with_the_next() -> None:
    there = Receivers()
    gathering = Gathering(there.send, most=3)
    first = says(gathering, "a", 1)
    await rounds()
    others = says(gathering, "a", 2, 3, 4, 5)
    await rounds()
    there.open.set()
    await asyncio.gather(*first, *others)
    assert there.heard == [("a", [1]), ("a", [2, 3, 4]), ("a", [5])]


async def test_what_comes_soon_after_a_message_goes_together() -> None:
    there = Receivers()
    there.open.set()
    gathering = Gathering(there.send, most=10, pause=0.1)
    await gathering.say("a", 1)
    later = []
    for number in (2, 3):
        later += says(gathering, "a", number)
        await rounds()
    await gathering.say("b", 4)
    assert there.heard == [("a", [1]), ("b", [4])]
    await asyncio.gather(*later)
    assert there.heard[2:] == [("a", [2, 3])]


async def test_all_who_said_something_hear_that_it_could_not_be_sent() -> None:
    there = Receivers()
    there.open.set()
    there.failures = 1
    gathering = Gathering(there.send, most=10)
    failed = await asyncio.gather(*says(gathering, "a", 1, 2), return_exceptions=True)
    assert [type(error) for error in failed] == [Unavailable, Unavailable]
    await gathering.say("a", 3)
    assert there.heard == [("a", [3])]


async def test_who_is_cancelled_while_sending_leaves_it_to_the_others() -> None:
    there = Receivers()
    gathering = Gathering(there.send, most=10)
    first, second = says(gathering, "a", 1, 2)
    await rounds()
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    there.open.set()
    await second
    assert there.heard == [("a", [1, 2])]
