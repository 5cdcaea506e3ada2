"""Access tokens prove what they were issued for, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
import pytest

from penstock.contracts.errors import StartupError, Unauthorized
from penstock.infra.auth import TokenExpired, Tokens

SECRET = "0123456789abcdef" * 4
HOUR = timedelta(hours=1)


def test_a_token_proves_its_user_until_it_expires() -> None:
    now = datetime.now(UTC)
    token, issued = Tokens(SECRET, "penstock.a").issue("user/1", HOUR, now=now)
    proved = Tokens(SECRET, "penstock.a").check(token)
    assert proved == issued
    assert proved.user == "user/1"
    assert now + HOUR - timedelta(seconds=1) <= proved.expires <= now + HOUR


def test_an_expired_token_is_told_apart_from_a_bad_one() -> None:
    tokens = Tokens(SECRET, "penstock.a")
    token, _ = tokens.issue("u", HOUR, now=datetime.now(UTC) - 2 * HOUR)
    with pytest.raises(TokenExpired, match="expired; ask for a new one"):
        tokens.check(token)


def test_a_token_for_another_audience_is_refused() -> None:
    token, _ = Tokens(SECRET, "penstock.b").issue("u", HOUR, now=datetime.now(UTC))
    with pytest.raises(Unauthorized, match=r"not for penstock\.a"):
        Tokens(SECRET, "penstock.a").check(token)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "not a token",
        jwt.encode({"sub": "u", "aud": "penstock.a", "exp": 2**33}, "x" * 32, algorithm="HS256"),
        jwt.encode({"sub": "u", "aud": "penstock.a", "exp": 2**33}, "", algorithm="none"),
        jwt.encode({"sub": "u", "aud": "penstock.a"}, SECRET, algorithm="HS256"),
        jwt.encode({"aud": "penstock.a", "exp": 2**33}, SECRET, algorithm="HS256"),
    ],
    ids=["empty", "garbage", "another key", "unsigned", "no expiry", "no user"],
)
def test_a_token_that_proves_nothing_is_refused(token: str) -> None:
    with pytest.raises(Unauthorized, match="ask for a new one") as refused:
        Tokens(SECRET, "penstock.a").check(token)
    assert not isinstance(refused.value, TokenExpired)


def test_a_secret_that_could_be_guessed_is_refused() -> None:
    with pytest.raises(StartupError, match="fewer than 32 bytes"):
        Tokens("short", "penstock.a")
