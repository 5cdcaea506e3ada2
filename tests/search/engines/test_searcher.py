from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import apsw
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from penstock.contracts.errors import InvalidMessage
from penstock.search.engines.documents import Hits, IndexedDocument, IndexQuery
from penstock.search.engines.embedding import WordLlamaEmbedder
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex, SqliteSearcher

Put = Callable[..., None]
Found = Callable[..., list[str]]
Search = Callable[..., Hits]

ANY_TEXT = st.text() | st.text(alphabet="\"'-*:^(){}+~ ANDORNOTNEARab\0\n“”\\", max_size=40)
SAME_FIXTURE = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


@pytest.fixture
def library(put: Put) -> None:
    put("planning", "The committee met to discuss quarterly planning.", year=2023)
    put("bread", "Bread is baked from flour, water and salt.", year=2020)
    put("ships", "The old harbour is full of ships and sailors.", year=2023)


@pytest.mark.usefixtures("library")
def test_words_are_found_by_stem_whatever_their_case_and_accents(put: Put, found: Found) -> None:
    put("café", "Naïve countries open cafés.")
    for text in ["COUNTRY", "country's", "naive", "CAFÉ", "cafe"]:
        assert found(text, hybrid=False) == ["café"]
    assert found("plans", hybrid=False) == ["planning"]


@pytest.mark.usefixtures("library")
def test_meaning_finds_what_has_none_of_the_words(found: Found) -> None:
    assert found("bakery", hybrid=False) == []
    assert found("bakery dough")[0] == "bread"
    assert found("boats in a port", alpha=1.0)[0] == "ships"


@pytest.mark.usefixtures("library")
def test_alpha_is_the_weight_of_meaning(search: Search) -> None:
    words = search("quarterly bakery", alpha=0.0)
    assert [hit.document.id for hit in words.hits] == ["planning"]
    assert words == search("quarterly bakery", hybrid=False)
    assert words.hits[0].similarity == 0
    meaning = search("quarterly bakery", alpha=1.0)
    assert {hit.keyword for hit in meaning.hits} == {0.0}
    both = search("quarterly bakery", alpha=0.25).hits
    assert both[0].score == pytest.approx(0.75 + 0.25 * _place(both[0].similarity, meaning))


def _place(similarity: float, hits: Hits) -> float:
    all_of_them = [hit.similarity for hit in hits.hits]
    return (similarity - min(all_of_them)) / (max(all_of_them) - min(all_of_them))


def test_a_word_in_the_title_counts_more_than_one_in_the_content(put: Put, found: Found) -> None:
    put("content", "Notes on the harbour", title="Ships of old")
    put("title", "Notes on the ships", title="Harbour of old")
    assert found("harbour", hybrid=False) == ["title", "content"]


def test_stop_words_do_not_find_anything_beside_other_words(put: Put, found: Found) -> None:
    put("a", "What is it about?")
    put("b", "lighthouses")
    assert found("what is the lighthouse", hybrid=False) == ["b"]
    assert found("what is it", hybrid=False) == ["a"]


def test_a_quoted_phrase_must_occur_to_be_found_by_words(put: Put, found: Found) -> None:
    put("phrase", "a quick brown fox")
    put("words", "a brown and quick fox")
    assert found('"quick brown" fox', hybrid=False) == ["phrase"]
    assert found("“Quick Brown” fox", hybrid=False) == ["phrase"]
    assert found('"quick" fox', hybrid=False) == ["phrase", "words"]
    assert found('fox "quick brown', hybrid=False) == ["phrase", "words"]
    assert found('"quick brown" fox') == ["phrase", "words"]


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "text",
    ['"', '""', "-", "NEAR(", "NEAR(a b, 2)", "*", "a*", ":", "title:bread", "^bread", "a AND",
     "NOT", "(", "{title} : x", '"a" "', "a\0b", "\\", "'; DROP TABLE indexed_document; --"],
)  # fmt: skip
def test_a_text_is_never_syntax(search: Search, text: str) -> None:
    for hybrid in (True, False):
        search(text, hybrid=hybrid)
    assert search(f"{text} bread").hits[0].document.id == "bread"


@pytest.mark.usefixtures("library")
def test_no_text_makes_a_search_fail(searcher: SqliteSearcher) -> None:
    @SAME_FIXTURE
    @given(ANY_TEXT.filter(str.strip), st.booleans())
    def check(text: str, hybrid: bool) -> None:
        for hit in searcher.search(IndexQuery(text=text, hybrid=hybrid)).hits:
            assert 0 < hit.relevance <= 1

    check()


def test_a_document_is_found_by_its_own_words(embedder: WordLlamaEmbedder) -> None:
    @settings(deadline=None, max_examples=50)
    @given(st.text(min_size=1), st.text(min_size=1))
    def check(content: str, other: str) -> None:
        connection = apsw.Connection(":memory:")
        connection.execute(SCHEMA)
        index = SqliteIndex(connection, embedder)
        index.put([_document("own", content), _document("other", other)])
        if connection.execute("SELECT 1 FROM indexed_text('\"' || ? || '\"')", ("x",)).get:
            return  # only to be sure that the table can be asked
        words = [c for c in content.replace('"', " ").split() if any(map(str.isalnum, c))]
        if words and all(word.isascii() for word in words):
            ids = [h.document.id for h in index.search(_words(" ".join(words))).hits]
            assert "own" in ids

    check()


def _document(id: str, content: str, **metadata: Any) -> IndexedDocument:
    return IndexedDocument(id=id, content=content, metadata=metadata, sequence=1)


def _words(text: str) -> IndexQuery:
    return IndexQuery(text=text, hybrid=False)
