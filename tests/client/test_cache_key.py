"""Keys and tags from arguments: no two different calls share a key."""

from __future__ import annotations

import enum
from datetime import date, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.client.cache_function import Call
from penstock.client.cache_key import TagTemplate, encoded, key_of
from penstock.contracts.errors import InvalidMessage

# Text that looks like encoded values is what would break an encoding without lengths.
TRICKY = st.text(alphabet="0123456789:,()=strinl", max_size=8)
ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    TRICKY,
    st.text(),
    st.binary(max_size=8),
    st.decimals(allow_nan=False),
    st.uuids(),
    st.datetimes(),
    st.dates(),
    st.timedeltas(),
)
HASHABLE = ATOMS | st.lists(ATOMS, max_size=3).map(tuple) | st.frozensets(ATOMS, max_size=3)
VALUES: st.SearchStrategy[Any] = st.deferred(
    lambda: HASHABLE | st.lists(VALUES, max_size=3) | st.dictionaries(HASHABLE, VALUES, max_size=3)
)


def meaning(value: Any) -> Any:
    """`value` so that equality minds types: Python's 1, 1.0 and True are equal."""
    kind = type(value)
    if kind in (list, tuple):
        return kind, tuple(meaning(v) for v in value)
    if kind in (set, frozenset):
        return kind, frozenset(meaning(v) for v in value)
    if kind is dict:
        return kind, frozenset((meaning(k), meaning(v)) for k, v in value.items())
    return kind, str(value) if kind in (float, Decimal) else value


@given(VALUES, VALUES)
def test_two_values_have_one_encoding_only_if_they_are_the_same(a: Any, b: Any) -> None:
    assert (encoded(a, "a") == encoded(b, "b")) == (meaning(a) == meaning(b))


@given(st.lists(TRICKY, max_size=4), st.lists(TRICKY, max_size=4))
def test_text_that_imitates_an_encoding_gives_no_other_list(a: list[str], b: list[str]) -> None:
    assert (encoded(a, "a") == encoded(b, "b")) == (a == b)


@given(st.dictionaries(TRICKY, VALUES, max_size=4))
def test_the_order_of_a_dict_does_not_matter(value: dict[str, Any]) -> None:
    assert encoded(dict(reversed(value.items())), "v") == encoded(value, "v")


class Colour(enum.Enum):
    RED = 1


class Shade(enum.IntEnum):
    RED = 1


def test_values_that_python_takes_for_equal_are_different_arguments() -> None:
    same = [1, 1.0, True, "1", b"1", Decimal(1), Shade.RED, Colour.RED, (1,), [1], {1}, {1: 1}]
    assert len({encoded(value, "v") for value in same}) == len(same)


@pytest.mark.parametrize("value", [object(), lambda: 1, ValueError("x"), [object()], {"a": 1j}])
def test_a_type_without_a_form_is_refused_by_the_name_of_its_argument(value: Any) -> None:
    with pytest.raises(InvalidMessage, match=r"The argument 'who' is a .*pass what identifies it"):
        key_of("user", {"who": value})


def test_a_key_can_be_read() -> None:
    arguments = {"id": "7", "on": date(2026, 1, 31), "for_": timedelta(days=1), "raw": None}
    assert key_of("user", arguments) == (
        "user(id=str1:7,on=date10:2026-01-31,for_=timedelta5:1,0,0,raw=none0:)"
    )


def test_tags_take_arguments_and_refuse_what_is_no_parameter() -> None:
    parameters = ["user_id", "team"]
    assert TagTemplate("user", parameters).of({"user_id": 7}) == "user"
    assert TagTemplate("u:{user_id}:{team}", parameters).of({"user_id": 7, "team": "a"}) == "u:7:a"
    with pytest.raises(InvalidMessage, match=r"names 'id', which is no parameter.*has user_id"):
        TagTemplate("user:{id}", parameters)
    with pytest.raises(InvalidMessage, match="is no template"):
        TagTemplate("user:{user_id", parameters)


async def load(user_id: str, deep: bool = False, *extra: int, **named: UUID) -> dict[str, int]:
    return {}


def key(*args: Any, **kwargs: Any) -> str:
    call = Call(load, "user", [], 1)
    return call.key(call.bound(*args, **kwargs))


def test_a_call_has_one_key_however_its_arguments_are_passed() -> None:
    assert key("7") == key(user_id="7") == key("7", False) == key("7", deep=False)
    others = {key("7"), key("8"), key("7", True), key("7", False, 1), key("7", x=UUID(int=1))}
    assert len(others) == 5


def test_function_version_and_type_of_result_are_part_of_the_key() -> None:
    async def untyped(user_id: str, deep: bool = False):  # type: ignore[no-untyped-def]
        return {}

    calls = [Call(load, "user", [], 1), Call(load, "user", [], 2), Call(load, "u", [], 1)]
    calls.append(Call(untyped, "user", [], 1))
    assert len({call.key({"user_id": "7"}) for call in calls}) == 4


def test_only_async_functions_are_decorated() -> None:
    with pytest.raises(InvalidMessage, match="declare it with `async def`"):
        Call(len, "len", [], 1)
    with pytest.raises(InvalidMessage, match="Tags are a list"):
        Call(load, "user", "user", 1)
