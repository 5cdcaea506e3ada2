"""What is remembered of late: the newest, and never more than so much."""

from __future__ import annotations

from penstock.infra.views.recent import Recent


def test_what_was_put_last_is_remembered_and_the_rest_is_bounded() -> None:
    recent = Recent[int, str](100)
    for n in range(1000):
        recent.put({n: str(n)})
    known = [n for n in range(1000) if recent.get(n) is not None]
    assert set(range(951, 1000)) <= set(known)
    assert len(known) <= 100


def test_the_newest_value_counts_and_what_was_dropped_is_gone() -> None:
    recent = Recent[str, int](4)
    recent.put({"a": 1, "b": 1})  # and now they are the older half
    recent.put({"a": 2})
    assert (recent.get("a"), recent.get("b")) == (2, 1)
    recent.drop("a")
    assert recent.get("a") is None
    recent.clear()
    assert recent.get("b") is None
