from __future__ import annotations

import subprocess
import sys
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from penstock.search.engines.embedding import WordLlamaEmbedder

TEXTS = ["harbour", "The ships lie in the harbour.", "Ünïcode 漢字 😀", "a " * 500]


def test_vectors_are_the_models_own(embedder: WordLlamaEmbedder) -> None:
    library = [embedder.load().embed([text], norm=True)[0] for text in TEXTS]
    assert np.allclose(embedder.embed(TEXTS), library, atol=1e-5)


def test_vectors_have_length_one_and_texts_without_meaning_are_zero(
    embedder: WordLlamaEmbedder,
) -> None:
    rows = embedder.embed([*TEXTS, ""])
    assert rows.dtype == np.float32
    assert rows.shape == (5, embedder.dimension)
    assert np.allclose(np.linalg.norm(rows, axis=1), [1, 1, 1, 1, 0], atol=1e-5)


def test_no_texts_are_no_rows(embedder: WordLlamaEmbedder) -> None:
    assert embedder.embed([]).shape == (0, 256)


def test_short_texts_take_no_more_memory_beside_a_long_one(embedder: WordLlamaEmbedder) -> None:
    embedder.load()
    tracemalloc.start()
    try:
        rows = embedder.embed(["harbour"] * 63 + ["harbour " * 20_000])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000_000
    assert rows[0] @ rows[-1] > 0.9


def test_near_meanings_have_a_larger_cosine(embedder: WordLlamaEmbedder) -> None:
    dough, bakery, ships = embedder.embed(["bread dough", "a bakery", "sailing ships"])
    assert dough @ bakery > dough @ ships


def test_threads_load_one_model() -> None:
    embedder = WordLlamaEmbedder()
    with ThreadPoolExecutor(4) as threads:
        models = {id(model) for model in threads.map(lambda _: embedder.load(), range(8))}
    assert len(models) == 1


def test_loading_needs_no_network_gives_no_warning_and_leaves_logging_alone() -> None:
    script = """
import logging, socket
def refuse(*_): raise AssertionError("no network")
socket.socket.connect = socket.getaddrinfo = refuse
from penstock.search.engines.embedding import WordLlamaEmbedder
WordLlamaEmbedder().embed(["harbour"])
assert logging.getLogger().handlers == [] and logging.getLogger().level == logging.WARNING
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        timeout=60,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
