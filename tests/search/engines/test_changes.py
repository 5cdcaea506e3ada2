from __future__ import annotations

import threading
from collections.abc import Callable, Sequence

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock.search.engines import sqlite
from penstock.search.engines.documents import IndexedDocument, IndexQuery
from penstock.search.engines.embedding import WordLlamaEmbedder
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex, SqliteSearcher

Put = Callable[..., None]
Found = Callable[..., list[str]]

CONTENTS = ["harbour and ships", "bread and flour", "quarterly planning", "", "rain " * 500]
IDS = st.sampled_from("abcd")
OPERATIONS = st.one_of(
    st.tuples(st.just("put"), IDS, st.sampled_from(CONTENTS)),
    st.tuples(st.just("delete"), IDS, st.none()),
    st.tuples(st.sampled_from(["begin", "commit", "rollback", "search"]), st.none(), st.none()),
)


def test_a_reader_is_in_step_with_a_writer_on_another_connection(
    put: Put, found: Found, index: SqliteIndex
) -> None:
    assert found("ships") == []
    put("a", "harbour and ships")
    assert found("boats", alpha=1.0) == ["a"]
    put("b", "bread and flour")
    put("a", "quarterly planning")
    assert found("boats", alpha=1.0, threshold=0.4) == []
    assert found("bakery", alpha=1.0)[0] == "b"
    index.delete(["b"])
    assert found("bakery plan", alpha=1.0) == ["a"]


def test_a_reader_in_a_transaction_sees_what_that_sees(
    searcher: SqliteSearcher,
    connect: Callable[[], apsw.Connection],
    put: Put,
    embedder: WordLlamaEmbedder,
) -> None:
    put("a", "harbour")
    connection = connect()
    reader = SqliteSearcher(connection, embedder)
    connection.execute("BEGIN")
    assert reader.count() == 1
    put("b", "harbour")
    assert [hit.document.id for hit in reader.search(IndexQuery(text="harbour")).hits] == ["a"]
    connection.execute("ROLLBACK")
    assert reader.search(IndexQuery(text="harbour")) == searcher.search(IndexQuery(text="harbour"))


def test_only_what_changed_is_loaded(
    index: SqliteIndex, connect: Callable[[], apsw.Connection], embedder: WordLlamaEmbedder
) -> None:
    index.put([_document(f"d{n}", f"harbour {n}") for n in range(50)])
    connection = connect()
    reader, loads = SqliteSearcher(connection, embedder), _vector_loads(connection)
    reader.search(IndexQuery(text="harbour"))
    assert loads == [50]
    reader.search(IndexQuery(text="harbour"))
    assert loads == [50]
    index.put([_document("d3", "bread"), _document("d50", "bread")])
    index.delete(["d4"])
    assert reader.search(IndexQuery(text="harbour")).total == 50
    assert loads == [50, 2]


def _vector_loads(connection: apsw.Connection) -> list[int]:
    """How many rows of vectors each loading statement gave, as long as statements are run."""
    loads: list[int] = []

    def row(cursor: apsw.Cursor, row: apsw.SQLiteValues) -> apsw.SQLiteValues:
        if [name for name, _ in cursor.get_description()] == ["document", "vectors"]:
            loads[-1] += 1
        return row

    def statement(_: apsw.Cursor, sql: str, __: apsw.Bindings | None) -> bool:
        if sql.startswith("SELECT document, vectors"):
            loads.append(0)
        return True

    connection.row_trace, connection.exec_trace = row, statement
    return loads


def test_a_reader_left_behind_the_kept_changes_loads_everything(
    put: Put, index: SqliteIndex, found: Found, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "CHANGES_KEPT", 3)
    put("stays", "harbour")
    put("goes", "harbour")
    assert found("harbour") == ["goes", "stays"]
    index.delete(["goes"])
    for n in range(10):
        put("other", f"bread {n}")
    assert found("harbour", hybrid=False) == ["stays"]
    assert set(found("harbour", alpha=1.0)) <= {"stays", "other"}


def test_a_rollback_takes_back_what_a_search_had_seen(
    index: SqliteIndex, writer: apsw.Connection
) -> None:
    index.put([_document("a", "bread")])
    writer.execute("BEGIN")
    index.put([_document("a", "harbour"), _document("b", "harbour")])
    assert _ids(index, "harbour") == ["a", "b"]
    writer.execute("ROLLBACK")
    # The same number of changes again, so that only the tokens tell them apart.
    index.put([_document("c", "flour"), _document("d", "flour")])
    assert _ids(index, "harbour", hybrid=False) == []
    assert set(_ids(index, "bread", alpha=1.0)) == {"a", "c", "d"}


def test_whatever_happens_a_kept_searcher_answers_like_a_new_one(
    embedder: WordLlamaEmbedder,
) -> None:
    @settings(max_examples=60)
    @given(st.lists(OPERATIONS, max_size=25))
    def check(operations: Sequence[tuple[str, str | None, str | None]]) -> None:
        connection = apsw.Connection(":memory:")
        connection.execute(SCHEMA)
        index = SqliteIndex(connection, embedder)
        for operation, id, content in operations:
            _apply(index, connection, operation, id, content)
        new = SqliteSearcher(connection, embedder)
        for text in ("ships", "bakery flour", "planning rain"):
            for alpha in (0.0, 0.4, 1.0):
                query = IndexQuery(text=text, alpha=alpha)
                assert index.search(query) == new.search(query)

    check()


def _apply(
    index: SqliteIndex,
    connection: apsw.Connection,
    operation: str,
    id: str | None,
    content: str | None,
) -> None:
    match operation, id, content:
        case "put", str(), str():
            index.put([_document(id, content)])
        case "delete", str(), _:
            index.delete([id])
        case "search", _, _:
            index.search(IndexQuery(text="ships"))
        case "begin", _, _ if not connection.in_transaction:
            connection.execute("BEGIN")
        case "commit" | "rollback", _, _ if connection.in_transaction:
            connection.execute(operation)


def test_searching_while_writing_never_sees_half_a_change(
    writer: apsw.Connection, index: SqliteIndex, searcher: SqliteSearcher
) -> None:
    stop, failures = threading.Event(), list[BaseException]()

    def ask() -> None:
        try:
            while not stop.is_set():
                hits = searcher.search(IndexQuery(text="harbour ships", limit=1000))
                assert hits.total == len(hits.hits)
                assert hits.total % 10 == 0  # each commit replaces ten by ten others
                generations = {hit.document.id.split("-")[0] for hit in hits.hits}
                assert len(generations) <= 1
        except BaseException as failure:
            failures.append(failure)
            raise

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for generation in range(30):
            with writer:
                index.delete([f"{generation - 1}-{n}" for n in range(10)])
                index.put([_document(f"{generation}-{n}", "harbour ships") for n in range(10)])
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
    assert failures == []
    assert searcher.search(IndexQuery(text="ships")).hits[0].document.id == "29-0"


def _document(id: str, content: str) -> IndexedDocument:
    return IndexedDocument(id=id, content=content, sequence=1)


def _ids(index: SqliteIndex, text: str, **options: float | bool) -> list[str]:
    hits = index.search(IndexQuery(text=text, **options))  # type: ignore[arg-type]
    return [hit.document.id for hit in hits.hits]
