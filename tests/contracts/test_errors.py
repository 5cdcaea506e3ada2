"""Errors on their way from one process to another."""

from __future__ import annotations

import msgspec
import pytest

from penstock.contracts.errors import PenstockError, Problem, from_problem


def every_error() -> list[type[PenstockError]]:
    found, wanted = [], [PenstockError]
    while wanted:
        found.append(wanted.pop())
        wanted += found[-1].__subclasses__()
    return found


@pytest.mark.parametrize("kind", every_error())
def test_an_error_arrives_as_itself(kind: type[PenstockError]) -> None:
    problem = kind("What is wrong; what to do.", path="$.x").problem("/there")
    arrived = from_problem(msgspec.json.decode(msgspec.json.encode(problem), type=Problem))
    assert type(arrived) is kind
    assert (str(arrived), arrived.fields) == ("What is wrong; what to do.", {"path": "$.x"})
    assert problem.status == kind.status >= 400


def test_codes_are_unique() -> None:
    codes = [kind.code for kind in every_error()]
    assert len(set(codes)) == len(codes)


def test_an_error_of_a_newer_version_arrives_as_the_root() -> None:
    problem = Problem(type="urn:penstock:error:novel", title="?", status=400, detail="New.")
    assert type(from_problem(problem)) is PenstockError
