"""Which bytes a request gets, by RFC 9110."""

from __future__ import annotations

import pytest

from penstock.exports.ranges import Part, matches, wanted

ETAG = '"abc"'
WHOLE = Part(0, 10, 10)


def asked(range: str | None, if_range: str | None = None, size: int = 10) -> Part | None:
    return wanted(size, ETAG, range=range, if_range=if_range)


@pytest.mark.parametrize(
    ("range", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=2-4", 2, 5),
        ("bytes=2-", 2, 10),
        ("bytes=-3", 7, 10),
        ("bytes=-30", 0, 10),
        ("bytes=8-99", 8, 10),
        ("bytes= 0-9 ", 0, 10),
    ],
)
def test_a_range_is_a_part(range: str, start: int, stop: int) -> None:
    assert asked(range) == Part(start, stop, 10, partial=True)


@pytest.mark.parametrize("range", ["bytes=10-", "bytes=99-100", "bytes=-0"])
def test_a_range_outside_has_no_part(range: str) -> None:
    assert asked(range) is None


@pytest.mark.parametrize(
    "range",
    [None, "", "bytes=", "bytes=-", "bytes=4-2", "bytes=0-1,3-4", "lines=0-1", "bytes=a-b",
     "bytes=" + "9" * 5000 + "-"],
)  # fmt: skip
def test_what_a_server_may_ignore_gets_the_whole(range: str | None) -> None:
    assert asked(range) == WHOLE


def test_a_range_of_another_version_gets_the_whole() -> None:
    assert asked("bytes=2-4", '"other"') == WHOLE
    assert asked("bytes=2-4", 'W/"abc"') == WHOLE
    assert asked("bytes=2-4", ETAG) == Part(2, 5, 10, partial=True)


def test_the_content_range_is_inclusive() -> None:
    assert Part(2, 5, 10, partial=True).content_range == "bytes 2-4/10"


@pytest.mark.parametrize("known", [ETAG, "*", 'W/"abc"', '"x", "abc"'])
def test_a_version_that_is_known_matches(known: str) -> None:
    assert matches(ETAG, known)


@pytest.mark.parametrize("known", [None, "", '"abcd"', "abc"])
def test_another_version_does_not_match(known: str | None) -> None:
    assert not matches(ETAG, known)
