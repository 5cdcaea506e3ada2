"""Ids as subject tokens, and names under a prefix."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.subjects import MAX_ID, Subjects, token, untoken


@given(st.text(min_size=1, max_size=MAX_ID))
def test_any_id_becomes_one_literal_token_and_comes_back(id: str) -> None:
    if any(0xD800 <= ord(c) <= 0xDFFF for c in id):
        return  # no UTF-8 for half a pair
    made = token(id)
    assert made.isascii()
    assert not set(made) & set(".*> \t\r\n")
    assert untoken(made) == id


@given(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=9))
def test_two_ids_never_share_a_token(one: str, other: str) -> None:
    if one != other and one.isprintable() and other.isprintable():
        assert token(one) != token(other)


@pytest.mark.parametrize("id", ["", "x" * (MAX_ID + 1)])
def test_an_id_has_one_to_256_characters(id: str) -> None:
    with pytest.raises(InvalidMessage, match="1 to 256 characters"):
        token(id)


def test_names_are_those_of_the_design() -> None:
    names = Subjects()
    assert names.event("jobs", "a.b") == "penstock.ev.jobs.a%2Eb"
    assert names.event_stream("jobs") == "PENSTOCK_EV_JOBS"
    assert names.command("jobs", "enqueue") == "penstock.cmd.jobs.enqueue"
    assert names.work("default", 5, "j1") == "penstock.work.default.5.j1"
    assert Subjects("my-app").stream("cmd") == "MY_APP_CMD"


@pytest.mark.parametrize("prefix", ["", "A", "a.b", "a b", "-a", "x" * 33])
def test_a_prefix_that_no_subject_can_have_is_refused(prefix: str) -> None:
    with pytest.raises(InvalidMessage, match="prefix"):
        Subjects(prefix)
