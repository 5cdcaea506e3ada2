from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.search.engines.embedding import Vectors, normalise
from penstock.search.engines.vectors import FIRST_CAPACITY, PassageVectors

CHANGES = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), max_size=40)


def vectors(seed: int, count: int) -> Vectors:
    rows = np.random.default_rng(seed).standard_normal((count, 4), dtype=np.float32)
    normalise(rows)
    return rows


@settings(deadline=None)
@given(CHANGES)
def test_similarity_is_that_of_the_nearest_passage(changes: list[tuple[int, int]]) -> None:
    table, expected = PassageVectors(4), dict[int, Vectors]()
    for seed, (number, count) in enumerate(changes):
        if count:
            expected[number] = vectors(seed, count)
            table.put(number, expected[number])
        else:
            expected.pop(number, None)
            table.remove(number)
    query = vectors(99, 1)[0]
    assert table.numbers.tolist() == sorted(expected)
    nearest = [float((expected[number] @ query).max()) for number in sorted(expected)]
    assert table.similarity(query).tolist() == pytest.approx(nearest, abs=1e-5)
    for number, rows in expected.items():
        assert table.nearest_passage(number, query) == int(np.argmax(rows @ query))


def test_it_grows_and_keeps_what_it_had() -> None:
    table, count = PassageVectors(4), 3 * FIRST_CAPACITY
    rows = vectors(1, count)
    for number in range(count):
        table.put(number + 1, rows[number : number + 1])
    assert table.similarity(rows[7]).argmax() == 7
    assert table.similarity(rows[count - 1]).argmax() == count - 1


def test_rows_of_removed_documents_are_used_again() -> None:
    table = PassageVectors(4)
    for number in range(1, 20 * FIRST_CAPACITY):
        table.put(number, vectors(1, 2))
        table.remove(number - 5)
    assert len(table.numbers) == 5
    assert table._used < 20


def test_a_document_of_more_passages_than_there_is_room_for_fits() -> None:
    table, rows = PassageVectors(4), vectors(2, 5 * FIRST_CAPACITY)
    table.put(1, rows)
    assert table.nearest_passage(1, rows[-1]) == len(rows) - 1


def test_equal_vectors_are_equally_near_wherever_they_are() -> None:
    same, query = np.random.default_rng(3).standard_normal((2, 1, 256), dtype=np.float32)
    cosines: set[float] = set()
    for count in (1, 2, 3, 7, 1000):
        table = PassageVectors(256)
        for number in range(1, count + 1):
            table.put(number, same)
        cosines.update(table.similarity(query[0]))
    assert len(cosines) == 1


def test_an_empty_table_has_no_similarities() -> None:
    assert PassageVectors(4).similarity(vectors(1, 1)[0]).tolist() == []
