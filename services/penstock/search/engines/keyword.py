"""Scores documents by the words of a query: BM25 over the full-text index. Never writes to it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import apsw
import msgspec
import numpy as np
from numpy.typing import NDArray

from penstock.search.engines.fusion import Positions, Scores
from penstock.search.engines.words import Term

TITLE_WEIGHT = 3.0  # one word in the title counts as this many in the content
NARROW = 0.25  # a filter that leaves a smaller share than this is worth its time in SQL

Numbers = NDArray[np.int64]
Mask = NDArray[np.bool_]

# As JSON because a row at a time takes twice as long, and keeps other threads waiting.
_MATCHES = f"""
SELECT (SELECT count(*) FROM indexed_text WHERE indexed_text MATCH ?),
       json_group_array(rowid), json_group_array(rank)
FROM indexed_text WHERE indexed_text MATCH ? AND rank MATCH 'bm25({TITLE_WEIGHT}, 1.0)'
"""
# The plus keeps SQLite from looking up each allowed document in the full-text index by itself.
_AMONG = " AND +rowid IN (SELECT value FROM carray(?))"

_integers = msgspec.json.Decoder(list[int]).decode
_floats = msgspec.json.Decoder(list[float]).decode


class _Matches(NamedTuple):
    frequency: int  # how many documents match, allowed or not
    positions: Positions
    weights: Scores  # BM25 without the rarity of the term: 1 for once in a document of mean length


def keyword_scores(
    connection: apsw.Connection, terms: Sequence[Term], numbers: Numbers, allowed: Mask
) -> tuple[Scores, Scores]:
    """BM25 of each document in `numbers`, and the same as a share of 1 (see `Hit.keyword`).

    `numbers` are all documents in order, and `allowed` tells which of them to look at. One that
    has none of the terms, or lacks a required one, has 0. A term counts as often as the query
    says it. Source: S. Robertson, H. Zaragoza, "The Probabilistic Relevance Framework: BM25 and
    Beyond" (2009), with Lucene's form of inverse document frequency, positive for any word.
    """
    scores = np.zeros(len(numbers))
    possible = allowed.copy()
    attainable = 0.0
    for term in terms:
        matches = _matches(connection, term, numbers, allowed)
        rarity = term.times * _rarity(matches.frequency, len(numbers))
        scores[matches.positions] += rarity * matches.weights
        attainable += rarity
        if term.required:
            possible &= np.isin(np.arange(len(numbers)), matches.positions)
    scores[~possible] = 0
    return scores, np.minimum(scores / attainable, 1) if attainable else scores


def _matches(connection: apsw.Connection, term: Term, numbers: Numbers, allowed: Mask) -> _Matches:
    sql = _MATCHES
    bindings: list[str | apsw.CArrayBinding] = [term.match, term.match]
    if 0 < np.count_nonzero(allowed) < len(numbers) * NARROW:
        sql += _AMONG
        bindings.append(apsw.carray(numbers[allowed]))
    frequency, rowids, ranks = connection.execute(sql, bindings).get
    positions = np.searchsorted(numbers, np.array(_integers(rowids), dtype=np.int64))
    weights = np.array(_floats(ranks)) / -_rarity_in_fts5(frequency, len(numbers))
    return _Matches(frequency, positions, weights)


def _rarity(frequency: int, total: int) -> float:
    return math.log1p((total - frequency + 0.5) / (frequency + 0.5))


def _rarity_in_fts5(frequency: int, total: int) -> float:
    """What FTS5's bm25() multiplies with: nearly 0 for a word that half of the documents have.

    Taken out again, since in a small index that is any word. Source: SQLite, fts5_aux.c.
    """
    rarity = math.log((total - frequency + 0.5) / (frequency + 0.5))
    return rarity if rarity > 0 else 1e-6
