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
from penstock.search.engines.passages import LENGTH
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex, SqliteSearcher
from penstock.search.engines.words import Tokenizer

Put = Callable[..., None]
Found = Callable[..., list[str]]
Search = Callable[..., Hits]

ANY_TEXT = st.text() | st.text(alphabet="\"'-*:^(){}+~ ANDORNOTNEARab\0\n“”\\", max_size=40)
SAME_FIXTURE = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


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


def test_the_title_is_part_of_what_a_document_means(put: Put, found: Found) -> None:
    put("a", "Part two of the report.", title="Bread and baking")
    put("b", "Part two of the report.", title="Harbour and sailing")
    assert found("boats and ports", alpha=1.0)[0] == "b"
    assert found("bakery dough", alpha=1.0)[0] == "a"


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


def test_a_word_counts_as_often_as_the_query_says_it(put: Put, found: Found) -> None:
    put("bread", "bread for all")
    put("ships", "ships for all")
    assert found("bread ships ships", hybrid=False) == ["ships", "bread"]
    assert found("bread bread ships", hybrid=False) == ["bread", "ships"]


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
    tokenizer = Tokenizer()

    @given(ANY_TEXT.filter(tokenizer.words), ANY_TEXT)
    def check(content: str, other: str) -> None:
        index = _in_memory(embedder)
        index.put([_document("own", content), _document("other", other)])
        hits = index.search(IndexQuery(text=content, hybrid=False)).hits
        assert "own" in [hit.document.id for hit in hits]

    check()


def _in_memory(embedder: WordLlamaEmbedder) -> SqliteIndex:
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    return SqliteIndex(connection, embedder)


def _document(id: str, content: str, **metadata: Any) -> IndexedDocument:
    return IndexedDocument(id=id, content=content, metadata=metadata, sequence=1)


def test_keyword_relevance_is_one_for_every_word_at_average_length(
    index: SqliteIndex, search: Search
) -> None:
    for word in ("apple", "bread", "candle"):
        index.put([_document(f"{word}{n}", f"{word} lantern") for n in range(3)])

    def check() -> None:
        hit = search("apple lantern", hybrid=False).hits[0]
        assert hit.document.id == "apple0"
        assert hit.keyword == hit.relevance == pytest.approx(1)
        part = search("apple zebra", hybrid=False).hits[0].keyword
        assert 0.2 < part < 0.5

    check()
    index.put([_document(f"bread{n}", "bread lantern") for n in range(3)])  # replaced
    check()
    index.delete([f"candle{n}" for n in range(3)])  # now more than half have an apple
    hit = search("apple lantern", hybrid=False).hits[0]
    assert hit.keyword == pytest.approx(1)


def test_relevance_is_absolute_even_for_a_single_document(put: Put, search: Search) -> None:
    put("only", "Bread is baked from flour.")
    assert search("bread flour").hits[0].relevance > 0.9
    assert search("quantum chromodynamics", threshold=0.3) == Hits()
    half = search("bread zebra", hybrid=False).hits[0]
    assert (half.score, half.relevance < 0.5) == (1, True)


@pytest.mark.usefixtures("library")
def test_a_threshold_cuts_on_relevance_and_total_counts_what_is_left(search: Search) -> None:
    everything = search("quarterly planning of bread")
    assert everything.total == 3
    edge = sorted(hit.relevance for hit in everything.hits)[1]
    cut = search("quarterly planning of bread", threshold=edge)
    assert cut.total == len(cut.hits) == 2
    assert [h.score for h in cut.hits] == [h.score for h in everything.hits if h.relevance >= edge]
    assert search("quarterly planning", threshold=0.5).hits[0].document.id == "planning"
    assert search("zebra crossing", threshold=0.5).total == 0


def test_filters_come_before_ranking(index: SqliteIndex, search: Search) -> None:
    better = [_document(f"b{n}", "harbour harbour ships", group="better") for n in range(300)]
    worst = _document("worst", "Of all things, one harbour. " + "Bread and water. " * 20, group="w")
    index.put([*better, worst])
    for hybrid in (True, False):
        hits = search("harbour ships", hybrid=hybrid, limit=1, filters={"group": "w"})
        assert [hit.document.id for hit in hits.hits] == ["worst"]
        assert hits.total == 1
        both = search("harbour ships", hybrid=hybrid, limit=1, filters={"group": {"ne": "w"}})
        assert (both.hits[0].document.id, both.total) == ("b0", 300)
        assert search("harbour", hybrid=hybrid, filters={"group": "none"}) == Hits()


def test_a_filter_does_not_change_how_well_words_fit(index: SqliteIndex, search: Search) -> None:
    index.put([_document(f"d{n}", f"harbour {n}", n=n) for n in range(50)])
    alone = search("harbour 7", hybrid=False, filters={"n": 7}).hits[0]
    assert alone.keyword == search("harbour 7", hybrid=False).hits[0].keyword


def test_pages_put_together_are_the_whole_in_one_order(index: SqliteIndex, search: Search) -> None:
    random = Random(5)
    words = ["harbour", "ships", "bread", "planning", "sailors", "flour"]
    contents = [" ".join(random.choices(words, k=4)) for _ in range(60)]
    index.put([_document(f"{n:03}", contents[n % 30]) for n in range(60)])
    for options in ({}, {"hybrid": False}, {"alpha": 1.0}, {"threshold": 0.4}):
        whole = search("ships in the harbour", limit=1000, **options)
        ids = [hit.document.id for hit in whole.hits]
        assert len(ids) == whole.total == len(set(ids))
        order = [(-hit.score, hit.document.id) for hit in whole.hits]
        assert order == sorted(order)
        for size in (1, 7):
            pages = [
                hit.document.id
                for offset in range(0, whole.total + size, size)
                for hit in search("ships in the harbour", limit=size, offset=offset, **options).hits
            ]
            assert pages == ids


def test_equals_are_ordered_by_id(index: SqliteIndex, found: Found) -> None:
    ids = [f"{n * 7 % 101:03}" for n in range(101)]
    index.put([_document(id, "the very same harbour") for id in ids])
    assert found("harbour ships", limit=200) == sorted(ids)
    assert found("harbour ships", limit=5, offset=3) == sorted(ids)[3:8]


@pytest.mark.usefixtures("library")
def test_filters_without_a_text_list_by_id(search: Search) -> None:
    listed = search("  ", filters={"year": 2023}, threshold=0.9)
    assert [hit.document.id for hit in listed.hits] == ["planning", "ships"]
    assert {hit.relevance for hit in listed.hits} == {1.0}
    assert listed.hits[0].fragments[0].text.startswith("The committee met")
    page = search(filters={"year": {"exists": True}}, limit=1, offset=2)
    assert ([hit.document.id for hit in page.hits], page.total) == (["ships"], 3)


@pytest.mark.parametrize(
    ("options", "path"),
    [
        ({"text": ""}, "text"),
        ({"text": " \n"}, "text"),
        ({"text": "a" * 10_001}, "text"),
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"offset": -1}, "offset"),
        ({"threshold": 1.5}, "threshold"),
        ({"alpha": float("nan")}, "alpha"),
        ({"filters": {"year": {"above": 3}}}, "filters.year.above"),
    ],
)
def test_what_cannot_be_asked_is_refused(
    search: Search, options: dict[str, Any], path: str
) -> None:
    with pytest.raises(InvalidMessage) as refusal:
        search(**{"text": "bread"} | options)
    assert refusal.value.fields == {"path": path}


def test_an_empty_index_finds_nothing(search: Search) -> None:
    assert search("anything") == search("anything", hybrid=False) == Hits()
    assert search("anything", filters={"a": 1}) == search(filters={"a": 1}) == Hits()


def test_fragments_show_words_or_else_the_nearest_passage(put: Put, search: Search) -> None:
    filler = "The weather report speaks of rain and of wind. " * 60
    put("long", f"{filler}Bread is baked from flour and yeast in a hot oven. {filler}")
    marked = search("flour").hits[0].fragments
    assert "<mark>flour</mark>" in marked[0].marked
    meant = search("bakery dough loaf").hits[0]
    (fragment,) = meant.fragments
    assert fragment.ranges == ()
    assert fragment.start > 0
    content = meant.document.content
    assert content[fragment.start :].startswith(fragment.text)
    passage = content[fragment.start : fragment.start + LENGTH]
    assert "baked" in passage
    assert search("flour", highlighting=None).hits[0].fragments == ()
