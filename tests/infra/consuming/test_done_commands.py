"""Which commands are done: those that are known to be, and those that are carried out once more."""

from __future__ import annotations

from penstock.infra.bus import Stored
from penstock.infra.consuming import done_commands
from penstock.infra.consuming.carrying_out import Delivered
from penstock.infra.consuming.done_commands import DoneCommands


def stored(sequence: int, body: bytes = b"") -> Stored:
    return Stored(sequence, f"p.cmd.progress.{sequence}", body, {"a": "b"})


class Service:
    """Carries out all commands but those at the places `waits`."""

    def __init__(self, *waits: int) -> None:
        self.waits = waits
        self.asked: list[int] = []

    async def __call__(self, command: Delivered) -> float | None:
        self.asked.append(command.sequence)
        assert (command.subject, command.headers) == (
            f"p.cmd.progress.{command.sequence}",
            {"a": "b"},
        )
        return 1.0 if command.sequence in self.waits else None


async def test_one_that_is_known_to_be_done_is_not_carried_out_again() -> None:
    done = DoneCommands(service := Service())
    done.add(1, b"x")
    assert await done.known([stored(1, b"x"), stored(2)]) == {1}
    assert await done.settled([stored(1, b"x"), stored(2)]) == {1, 2}
    assert await done.settled([stored(1, b"x"), stored(2)]) == {1, 2}
    assert service.asked == [2]


async def test_one_that_cannot_be_carried_out_now_is_not_settled() -> None:
    done = DoneCommands(service := Service(2))
    assert await done.settled([stored(1), stored(2)]) == {1}
    assert await done.settled([stored(1), stored(2)]) == {1}
    assert service.asked == [1, 2, 2]


async def test_another_command_at_the_place_of_one_that_is_done_is_not_done() -> None:
    done = DoneCommands(service := Service())
    done.add(1, b"of the stream that was there before")
    assert await done.known([stored(1, b"x")]) == set()
    assert await done.settled([stored(1, b"x")]) == {1}
    assert service.asked == [1]


async def test_only_the_last_ones_are_remembered() -> None:
    done = DoneCommands(Service())
    for sequence in range(1, done_commands.REMEMBERED + 2):
        done.add(sequence, b"")
    assert await done.known([stored(1), stored(2)]) == {2}
