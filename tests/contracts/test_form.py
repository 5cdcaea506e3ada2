"""Forms: a message with holes, filled in, is the message that would have been encoded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.form import Form, hole


class Inner(msgspec.Struct):
    payload: Any
    text: str


class Outer(msgspec.Struct):
    id: str
    inner: Inner
    number: int


@given(st.text(), st.text(), st.text(), st.integers(0, 2**53))
def test_a_filled_form_is_the_message_encoded(id: str, key: str, text: str, number: int) -> None:
    first, payload, last = hole(), hole(), hole()
    form = Form(Outer(first, Inner(payload, text), last), first, payload, last)
    encode = msgspec.json.encode
    filled = form.fill(encode(id), encode({key: id}), encode(number))
    assert filled == encode(Outer(id, Inner({key: id}, text), number))


def test_a_hole_that_is_missing_or_elsewhere_is_refused() -> None:
    first, last = hole(), hole()
    for holes in ((last, first), (first, last, hole())):
        with pytest.raises(ValueError, match="holes"):
            Form(Outer(first, Inner(1, "a"), last), *holes)


def test_a_hole_is_in_its_message_once() -> None:
    first = hole()
    with pytest.raises(ValueError, match="holes"):
        Form(Outer(first, Inner(first, "a"), 1), first)
