"""Makes one ranking out of scores by words and scores by meaning. Never reads an index."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.float64]
Positions = NDArray[np.int64]


class Legs(NamedTuple):
    """How the same documents do by words and by meaning: arrays of one length.

    A document that a leg did not find has 0 there. `keyword` is BM25, and `share` the same as
    an absolute number, 0..1; `similarity` is a cosine, and absolute already.
    """

    keyword: Scores
    share: Scores
    similarity: Scores

    def relevance(self) -> Scores:
        """The better of the two absolute numbers: a document may be found by either."""
        return np.maximum(self.share, self.similarity)

    def fused(self, alpha: float) -> Scores:
        """Relative score fusion: each leg stretched to 0..1, meaning weighted by `alpha`, 0..1.

        Source: Weaviate, "Hybrid search", relativeScoreFusion.
        """
        return (1 - alpha) * _stretched(self.keyword) + alpha * _stretched(self.similarity)


def _stretched(scores: Scores) -> Scores:
    """`scores` above 0 as places in their range, all 1 where they are equal; the others 0."""
    found = scores > 0
    if not found.any():
        return np.zeros_like(scores)
    low, high = scores[found].min(), scores[found].max()
    places = (scores - low) / (high - low) if high > low else np.ones_like(scores)
    return np.where(found, places, 0.0)


def leading(scores: Scores, count: int) -> Positions:
    """The positions of the `count` best, unordered, with all that tie with the last of them."""
    if count >= len(scores):
        return np.arange(len(scores))
    last = np.partition(scores, -count)[-count]
    return np.flatnonzero(scores >= last)
