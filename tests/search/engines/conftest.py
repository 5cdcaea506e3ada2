"""An index in a file of its own, and short ways to put documents into it and to ask it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from penstock.search.engines.documents import Hits, IndexedDocument, IndexQuery
from penstock.search.engines.embedding import WordLlamaEmbedder
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex, SqliteSearcher


@pytest.fixture(scope="session")
def embedder() -> WordLlamaEmbedder:
    """The default model, loaded once for all tests."""
    return WordLlamaEmbedder()


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[[], apsw.Connection]]:
    """Opens one more connection to the database of this test."""
    opened: list[apsw.Connection] = []

    def connect() -> apsw.Connection:
        connection = apsw.Connection(str(tmp_path / "index.db"))
        connection.set_busy_timeout(5000)
        connection.execute("PRAGMA synchronous = NORMAL; PRAGMA journal_mode = WAL")
        opened.append(connection)
        return connection

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture
def writer(connect: Callable[[], apsw.Connection]) -> apsw.Connection:
    """The connection that writes; the tables are there."""
    connection = connect()
    connection.execute(SCHEMA)
    return connection


@pytest.fixture
def index(writer: apsw.Connection, embedder: WordLlamaEmbedder) -> SqliteIndex:
    """An empty index."""
    return SqliteIndex(writer, embedder)


@pytest.fixture
def searcher(
    index: SqliteIndex, connect: Callable[[], apsw.Connection], embedder: WordLlamaEmbedder
) -> SqliteSearcher:
    """Searches the index on a connection of its own, which can only read."""
    connection = connect()
    connection.execute("PRAGMA query_only = 1")
    return SqliteSearcher(connection, embedder)


@pytest.fixture
def put(index: SqliteIndex) -> Callable[..., None]:
    """`put("a", "content", title=None, year=2020)` indexes a document with that metadata."""

    def put(id: str, content: str, title: str | None = None, **metadata: Any) -> None:
        document = IndexedDocument(
            id=id, content=content, title=title, metadata=metadata, sequence=1
        )
        index.put([document])

    return put


@pytest.fixture
def search(searcher: SqliteSearcher) -> Callable[..., Hits]:
    """`search("text", limit=3)` asks the reading connection."""
    return lambda text="", **options: searcher.search(IndexQuery(text=text, **options))


@pytest.fixture
def found(search: Callable[..., Hits]) -> Callable[..., list[str]]:
    """The ids that `search` finds, in order."""
    return lambda text="", **options: [hit.document.id for hit in search(text, **options).hits]
