"""How well the engine ranks, on a judged collection, where that is at hand."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType

import apsw
import pytest

from penstock.search.engines.documents import IndexedDocument, IndexQuery
from penstock.search.engines.embedding import WordLlamaEmbedder
from penstock.search.engines.sqlite import SCHEMA, SqliteIndex

ROOT = Path(__file__).parents[3]
JUDGED = Path(os.environ.get("PENSTOCK_JUDGED", ROOT.parent / "shared" / "ir")) / "judged.py"


@pytest.fixture
def judged() -> ModuleType:
    if not JUDGED.exists():
        pytest.skip("set PENSTOCK_JUDGED to a folder with judged.py and its collections")
    spec = importlib.util.spec_from_file_location("judged", JUDGED)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_cranfield_is_ranked_as_well_as_measured(
    judged: ModuleType, embedder: WordLlamaEmbedder
) -> None:
    documents, queries, judgements = judged.load("cran")
    connection = apsw.Connection(":memory:")
    connection.execute(SCHEMA)
    index = SqliteIndex(connection, embedder)
    index.put(
        [IndexedDocument(id=str(id), content=text, sequence=1) for id, text in documents.items()]
    )

    def ndcg(alpha: float) -> float:
        asked = {q: IndexQuery(text=t, alpha=alpha, highlighting=None) for q, t in queries.items()}
        run = {q: [int(hit.document.id) for hit in index.search(a).hits] for q, a in asked.items()}
        mean: float = judged.ndcg(run, judgements)
        return mean

    assert ndcg(0.0) > 0.362
    assert ndcg(1.0) > 0.305
    assert ndcg(0.4) > 0.380
