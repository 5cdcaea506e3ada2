"""The time of who asks: the machine's, unless a test says another one."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

from penstock.infra import clock

THEN = datetime(2020, 1, 1, tzinfo=UTC)


def test_it_is_the_moment_that_is_said_until_the_block_ends() -> None:
    with clock.saying(THEN):
        assert clock.now() == THEN
    assert abs(clock.now() - datetime.now(UTC)) < timedelta(minutes=1)


def test_another_thread_does_not_hear_of_it() -> None:
    heard: list[datetime] = []
    with clock.saying(THEN):
        thread = threading.Thread(target=lambda: heard.append(clock.now()))
        thread.start()
        thread.join()
    assert heard[0] > THEN
