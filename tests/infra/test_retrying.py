"""Trying again: what cannot be done for now, until a deadline, and nothing else."""

from __future__ import annotations

import asyncio

import pytest

from penstock.contracts.errors import Refused, Unavailable
from penstock.infra.connection import login_of
from penstock.infra.retrying import PAUSE, until_available


class Attempts:
    """Fails with each of `errors` in turn, then succeeds."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


async def test_what_is_unavailable_is_tried_until_it_is_there() -> None:
    attempts = Attempts(Unavailable("no"), Unavailable("not yet"))
    assert await until_available(attempts, "it", within=10) == "done"
    assert attempts.count == 3


async def test_a_refusal_is_raised_at_once() -> None:
    attempts = Attempts(Refused("never"))
    with pytest.raises(Refused):
        await until_available(attempts, "it", within=10)
    assert attempts.count == 1


async def test_no_attempt_begins_after_the_deadline() -> None:
    attempts = Attempts(*(Unavailable(str(n)) for n in range(100)))
    async with asyncio.timeout(30):
        with pytest.raises(Unavailable):
            await until_available(attempts, "it", within=3.5 * PAUSE)
    assert 1 < attempts.count <= 4


@pytest.mark.parametrize(
    ("url", "login"),
    [
        ("nats://a:b@host:4222", {"user": "a", "password": "b"}),
        ("nats://a:b%40c@one,nats://a:b%40c@two", {"user": "a", "password": "b@c"}),
        ("nats://a:b@one,nats://other:b@two", {}),
        ("nats://token@host", {}),
        ("nats://host:4222,nats://other:4222", {}),
    ],
)
def test_a_login_that_all_servers_share_is_for_those_too_that_they_tell_of(
    url: str, login: dict[str, str]
) -> None:
    assert login_of(url) == login
