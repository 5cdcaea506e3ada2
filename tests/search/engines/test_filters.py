from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.contracts.errors import InvalidMessage
from penstock.search.engines.documents import IndexedDocument, IndexQuery
from penstock.search.engines.embedding import WordLlamaEmbedder
from penstock.search.engines.filters import MOST_CONDITIONS, MOST_VALUES, condition
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex

Found = Callable[..., list[str]]

DOCUMENTS: dict[str, dict[str, Any]] = {
    "int": {"v": 3},
    "float": {"v": 3.5},
    "text": {"v": "three"},
    "digit": {"v": "3"},
    "date": {"v": "2024-05-01T10:00:00Z"},
    "true": {"v": True},
    "false": {"v": False},
    "one": {"v": 1},
    "null": {"v": None},
    "absent": {},
    "list": {"v": [3, "three", True, "thirty"]},
    "empty": {"v": []},
    "nested": {"v": {"w": {"x": 3}}},
    "dotted": {"v.w.x": 3},
    "inside": {"v": [{"w": {"x": 3}}, {"w": {"x": 4}}]},
    "large": {"v": 10**30},
}
PRESENT = {*DOCUMENTS} - {"null", "absent", "empty"}


@pytest.fixture(autouse=True)
def documents(index: SqliteIndex) -> None:
    index.put(
        [
            IndexedDocument(id=id, content="", metadata={**metadata, "all": 1}, sequence=1)
            for id, metadata in DOCUMENTS.items()
        ]
    )


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (3, {"int", "list"}),
        (3.0, {"int", "list"}),
        ({"eq": 3}, {"int", "list"}),
        ("3", {"digit"}),
        ("three", {"text", "list"}),
        (True, {"true", "list"}),
        (False, {"false"}),
        (1, {"one"}),
        (10**30, {"large"}),
        (None, {"null", "absent", "empty"}),
        ({"ne": 3}, {*DOCUMENTS} - {"int", "list"}),
        ({"ne": None}, PRESENT),
        ({"in": [3, "three", False]}, {"int", "text", "list", "false"}),
        ({"in": []}, set()),
        ({"gt": 3}, {"float", "large"}),
        ({"gte": 3}, {"int", "float", "list", "large"}),
        ({"lt": 3}, {"one"}),
        ({"lte": 3}, {"int", "one", "list"}),
        ({"gte": 2, "lt": 3.5}, {"int", "list"}),
        ({"gte": "2024-05", "lt": "2024-06"}, {"date"}),
        ({"gt": "t"}, {"text", "list"}),
        ({"contains": 3}, {"list"}),
        ({"contains": True}, {"list"}),
        ({"contains": "three"}, {"list", "text"}),
        ({"contains": "hre"}, {"text"}),
        ({"contains": "HRE"}, set()),
        ({"contains": "%"}, set()),
        ({"exists": True}, PRESENT),
        ({"exists": False}, {"null", "absent", "empty"}),
    ],
)
def test_a_condition_holds_for_these(found: Found, wanted: Any, ids: set[str]) -> None:
    assert set(found(filters={"v": wanted}, limit=100)) == ids


@pytest.mark.parametrize(
    ("filters", "ids"),
    [
        ({"v.w.x": 3}, {"nested", "dotted", "inside"}),
        ({"v.w.x": {"contains": 4}}, {"inside"}),
        ({"v.w": {"exists": True}}, {"nested", "dotted", "inside"}),
        ({"v.": {"exists": True}}, set()),
        ({"v": {"gte": 3}, "all": 1}, {"int", "float", "list", "large"}),
        ({"v": {"gte": 3}, "all": {"ne": 1}}, set()),
        ({"": 1}, set()),
        ({"v' OR 1=1 --": 1}, set()),
    ],
)
def test_conditions_on_several_fields_and_deeper_ones_all_hold(
    found: Found, filters: dict[str, Any], ids: set[str]
) -> None:
    assert set(found(filters=filters, limit=100)) == ids


@pytest.mark.parametrize(
    ("filters", "path", "says"),
    [
        ({"v": {"above": 3}}, "filters.v.above", "use one of eq, ne"),
        ({"v": {"w": {"x": 3}}}, "filters.v.w", "no operator 'w'"),
        ({"v": {}}, "filters.v", "empty"),
        ({"v": [3]}, "filters.v", "text, a number or a boolean"),
        ({"v": {"gte": True}}, "filters.v.gte", "text or numbers"),
        ({"v": {"lt": None}}, "filters.v.lt", "text, a number"),
        ({"v": {"in": "abc"}}, "filters.v.in", "list of values"),
        ({"v": {"in": [[1]]}}, "filters.v.in", "text, a number"),
        ({"v": {"contains": {"a": 1}}}, "filters.v.contains", "text, a number"),
        ({"v": {"exists": 1}}, "filters.v.exists", "true or false"),
        ({"v": {"in": [1] * (MOST_VALUES + 1000)}}, "filters", "at most"),
        ({f"v{n}": 1 for n in range(MOST_CONDITIONS + 1)}, "filters", "at most"),
    ],
)
def test_what_is_no_condition_is_refused_with_its_path(
    filters: dict[str, Any], path: str, says: str
) -> None:
    with pytest.raises(InvalidMessage, match=says) as refusal:
        condition(filters)
    assert refusal.value.fields == {"path": path}


def test_as_many_conditions_and_values_as_are_allowed_can_be_asked(found: Found) -> None:
    values = {"v": {"in": [*range(100, 99 + MOST_VALUES), 3]}}
    assert found(filters=values) == ["int", "list"]
    conditions = {f"missing{n}": {"contains": "x"} for n in range(MOST_CONDITIONS)}
    assert found(filters=conditions) == []


def test_integers_beyond_64_bits_are_ordered() -> None:
    def bound(number: int) -> Any:
        return condition({"v": {"gt": number}}).bindings[-1]

    assert bound(2**63 - 1) == 2**63 - 1
    assert bound(2**64) == 2.0**64
    assert (bound(10**400), bound(-(10**400))) == (math.inf, -math.inf)


def test_any_json_value_is_found_by_being_equal_to_it(embedder: WordLlamaEmbedder) -> None:
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)

    @settings(deadline=None)
    @given(st.text(), st.text() | st.booleans() | numbers)
    def check(field: str, value: Any) -> None:
        connection = apsw.Connection(":memory:")
        connection.execute(SCHEMA)
        index = SqliteIndex(connection, embedder)
        for metadata in ({field: value}, {field: [value]}, {"outer": {field: value}}):
            index.put([IndexedDocument(id="a", content="", metadata=metadata, sequence=1)])
            path = f"outer.{field}" if "outer" in metadata and field != "outer" else field
            assert index.search(IndexQuery(filters={path: value})).total == 1
            assert index.search(IndexQuery(filters={path: {"in": [value]}})).total == 1
            assert index.search(IndexQuery(filters={path: {"ne": value}})).total == 0

    check()
