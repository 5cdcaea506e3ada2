from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import apsw
import numpy as np
import pytest

from penstock.contracts.errors import StartupError
from penstock.search.engines.documents import IndexedDocument, IndexQuery
from penstock.search.engines.embedding import Vectors, WordLlamaEmbedder, normalise
from penstock.search.engines.passages import LENGTH
from penstock.search.engines.sqlite import SCHEMA, TEXTS_AT_ONCE, SqliteIndex, SqliteSearcher

Put = Callable[..., None]
Found = Callable[..., list[str]]

TABLES = ["indexed_document", "indexed_passages", "indexed_field", "indexed_text"]


class LetterEmbedder:
    """Another model: how often each of 26 letters occurs. Keeps how many texts each call had."""

    name = "letters"
    dimension = 26

    def __init__(self) -> None:
        self.calls: list[int] = []

    def embed(self, texts: Sequence[str]) -> Vectors:
        self.calls.append(len(texts))
        rows = np.zeros((len(texts), 26), dtype=np.float32)
        for row, text in zip(rows, texts, strict=True):
            letters = [ord(c) - ord("a") for c in text.lower() if "a" <= c <= "z"]
            np.add.at(row, letters, 1)
        normalise(rows)
        return rows


def document(id: str, content: str) -> IndexedDocument:
    return IndexedDocument(id=id, content=content, metadata={"n": [1, 1, 2]}, sequence=1)


def rows(connection: apsw.Connection) -> list[int]:
    return [connection.execute(f"SELECT count(*) FROM {table}").get for table in TABLES]


def test_a_document_comes_back_as_it_was_put(index: SqliteIndex) -> None:
    metadata = {"text": "ü", "n": 10**30, "f": 0.1, "none": None, "list": [1, [True]], "o": {}}
    whole = IndexedDocument(id="a/ü ", title="T", content="c\0d", metadata=metadata, sequence=7)
    index.put([whole])
    assert index.get("a/ü ") == whole
    assert index.get("other") is None


def test_putting_again_replaces(put: Put, found: Found, index: SqliteIndex) -> None:
    put("a", "apples", title="fruit", kind="old")
    put("a", "bridges", kind="new")
    assert index.count() == 1
    assert found("apples fruit", hybrid=False) == []
    assert found("bridges", hybrid=False) == ["a"]
    assert found(filters={"kind": "old"}) == []
    assert found(filters={"kind": "new"}) == ["a"]


def test_putting_twice_is_putting_once(index: SqliteIndex, writer: apsw.Connection) -> None:
    index.put([document("a", "apples"), document("b", "bread")])
    once, hits = rows(writer), index.search(IndexQuery(text="apples"))
    index.put([document("a", "apples"), document("b", "bread")])
    assert rows(writer) == once == [2, 2, 4, 2]
    assert index.search(IndexQuery(text="apples")) == hits


def test_of_two_documents_by_one_id_the_last_counts(index: SqliteIndex, found: Found) -> None:
    index.put([document("a", "apples"), document("a", "bread")])
    assert index.count() == 1
    assert found("bread", hybrid=False) == ["a"]


def test_deleting_leaves_nothing_and_may_be_repeated(
    index: SqliteIndex, writer: apsw.Connection, found: Found
) -> None:
    index.put([document("a", "apples"), document("b", "apples")])
    for _ in range(2):
        index.delete(["a", "never there"])
        assert found("apples") == ["b"]
    index.delete(["b"])
    assert rows(writer) == [0, 0, 0, 0]
    assert found("apples") == []


def test_a_document_without_words_is_listed_and_found_by_no_word(
    put: Put, found: Found, index: SqliteIndex
) -> None:
    put("empty", "", kind="k")
    put("dots", " ... ", kind="k")
    assert found(filters={"kind": "k"}) == ["dots", "empty"]
    assert "empty" not in found("anything at all")
    assert index.count() == 2


def test_nothing_is_committed_by_the_index(
    writer: apsw.Connection, index: SqliteIndex, found: Found
) -> None:
    index.put([document("kept", "apples")])
    writer.execute("BEGIN")
    index.put([document("a", "apples")])
    index.delete(["kept"])
    assert [hit.document.id for hit in index.search(IndexQuery(text="apples")).hits] == ["a"]
    assert writer.in_transaction
    assert found("apples") == ["kept"]
    writer.execute("ROLLBACK")
    assert found("apples") == ["kept"]
    assert [hit.document.id for hit in index.search(IndexQuery(text="apples")).hits] == ["kept"]


CRASH = """
import os, signal, sys, apsw
from penstock.search.engines.documents import IndexedDocument
from penstock.search.engines.embedding import WordLlamaEmbedder
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex
connection = apsw.Connection(sys.argv[1])
connection.execute("PRAGMA journal_mode = WAL").fetchall()
connection.execute("PRAGMA cache_size = 10")  # so that uncommitted pages reach the file
connection.execute(SCHEMA)
index = SqliteIndex(connection, WordLlamaEmbedder())
def put(name, count):
    index.put([IndexedDocument(id=f"{name}{n}", content=f"{name} {n}", sequence=n)
               for n in range(count)])
with connection:
    put("committed", 20)
connection.execute("BEGIN")
index.delete(["committed0"])
put("lost", 600)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_not_committed_before_a_kill_never_was(
    tmp_path: Path, connect: Callable[[], apsw.Connection], embedder: WordLlamaEmbedder
) -> None:
    crashed = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path / "index.db")], timeout=60, check=False
    )
    assert crashed.returncode == -signal.SIGKILL
    index = SqliteIndex(connect(), embedder)
    assert index.count() == 20
    hits = index.search(IndexQuery(text="committed lost", limit=50)).hits
    assert {hit.document.id for hit in hits} == {f"committed{n}" for n in range(20)}
    index.put([document("lost0", "found again")])
    assert index.search(IndexQuery(text="again")).hits[0].document.id == "lost0"


def test_another_embedder_is_refused_with_what_to_do(
    writer: apsw.Connection, index: SqliteIndex, put: Put
) -> None:
    early = SqliteIndex(writer, LetterEmbedder())
    watching = SqliteSearcher(writer, LetterEmbedder())
    put("a", "apples")
    with pytest.raises(StartupError, match=r"wordllama.* letters \(26 dimensions\).*rebuilt"):
        SqliteIndex(writer, LetterEmbedder())
    with pytest.raises(StartupError):
        early.put([document("b", "bread")])
    with pytest.raises(StartupError):
        watching.search(IndexQuery(text="apples"))
    assert index.count() == 1


def test_texts_are_embedded_in_batches() -> None:
    embedder, connection = LetterEmbedder(), apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    long = " ".join(f"word{n}" for n in range(LENGTH))
    index = SqliteIndex(connection, embedder)
    index.put([document(f"d{n}", "short") for n in range(2 * TEXTS_AT_ONCE)])
    assert embedder.calls == [TEXTS_AT_ONCE, TEXTS_AT_ONCE]
    embedder.calls.clear()
    index.put([document(f"long{n}", long) for n in range(TEXTS_AT_ONCE)])
    assert max(embedder.calls) == TEXTS_AT_ONCE
    assert sum(embedder.calls) > 5 * TEXTS_AT_ONCE
