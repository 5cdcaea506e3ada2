from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.search.engines.fusion import Legs, leading

SCORES = st.lists(st.floats(0, 100), max_size=30)


def fused(keyword: list[float], similarity: list[float], alpha: float) -> list[float]:
    nothing = np.zeros(len(keyword))
    found = Legs(np.array(keyword), nothing, np.array(similarity)).fused(alpha)
    return [float(score) for score in found]


def test_each_leg_is_stretched_over_what_it_found() -> None:
    scores = fused([8, 6, 4, 0], [0, 0.2, 0.4, 0.6], 0.4)
    assert scores == pytest.approx([0.6, 0.3, 0.2, 0.4])


def test_equal_scores_get_the_whole_weight() -> None:
    assert fused([3, 3, 0], [0, 0.5, 0], 0.4) == pytest.approx([0.6, 1.0, 0.0])


@pytest.mark.parametrize(("alpha", "first"), [(0.0, 0), (1.0, 1)])
def test_a_leg_without_weight_has_no_say(alpha: float, first: int) -> None:
    assert int(np.argmax(fused([2, 1], [0.1, 0.2], alpha))) == first


def test_relevance_is_the_better_of_the_two() -> None:
    legs = Legs(np.array([9.0, 1.0]), np.array([0.7, 0.1]), np.array([0.2, 0.3]))
    assert legs.relevance().tolist() == [0.7, 0.3]


@given(SCORES, st.integers(1, 40))
def test_leading_are_the_best_and_all_that_tie_with_the_last(
    scores: list[float], count: int
) -> None:
    chosen = {int(at) for at in leading(np.array(scores), count)}
    last = sorted(scores, reverse=True)[:count][-1] if scores else 0
    assert chosen == {at for at, score in enumerate(scores) if score >= last}
