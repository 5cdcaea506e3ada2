"""Which embedder an index was built with. Never loads one."""

from __future__ import annotations

import apsw

from penstock.contracts.errors import StartupError
from penstock.search.engines.embedding import Embedder


def check_stamp(connection: apsw.Connection, embedder: Embedder) -> None:
    """Raise StartupError if the index has vectors of another embedder than `embedder`."""
    built = connection.execute("SELECT name, dimension FROM index_embedder").fetchone()
    if built and built != (embedder.name, embedder.dimension):
        raise StartupError(
            f"The index was built with the embedder {built[0]} ({built[1]} dimensions) and cannot "
            f"be used with {embedder.name} ({embedder.dimension} dimensions); remove the index "
            "file to have it rebuilt from the events, or configure the former embedder.",
            built_with=built[0],
            configured=embedder.name,
        )


def stamp(connection: apsw.Connection, embedder: Embedder) -> None:
    """Bind the index to `embedder`. Raises StartupError if it is bound to another one."""
    check_stamp(connection, embedder)
    connection.execute(
        "INSERT OR IGNORE INTO index_embedder VALUES (1, ?, ?)", (embedder.name, embedder.dimension)
    )
