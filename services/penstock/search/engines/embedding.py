"""Turns texts into vectors whose cosine tells how near their meanings are. Never stores them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from wordllama.inference import WordLlamaInference

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """A model of meaning. An index is bound to the `name` and `dimension` it was built with."""

    @property
    def name(self) -> str:
        """Names the model and its version: equal names give comparable vectors."""
        ...

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """One row of length 1 for each text, and of zeros for a text without meaning.

        Called from several threads at once.
        """
        ...


def normalise(rows: Vectors) -> None:
    """Bring `rows` to length 1, in place; rows of zeros stay as they are."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    np.divide(rows, lengths, out=rows, where=lengths > 0)


class WordLlamaEmbedder:
    """Static word vectors, averaged: small, quick, without a network or a GPU.

    The weights come with the `wordllama` wheel and take half a second to load, at the first text
    or by `load`; do that in a thread where an event loop is running.
    """

    name = "wordllama-l2-supercat-256"
    dimension = 256

    def __init__(self) -> None:
        self._model: WordLlamaInference | None = None
        self._loading = threading.Lock()

    def embed(self, texts: Sequence[str]) -> Vectors:
        """See Embedder.embed."""
        model = self.load()
        rows = np.zeros((len(texts), self.dimension), dtype=np.float32)
        for row, encoded in zip(rows, model.tokenize(list(texts)), strict=True):
            # The library's own pooling pads a batch to its longest text, which for one long
            # text takes gigabytes. A normalised sum is the normalised mean.
            tokens, times = np.unique(np.asarray(encoded.ids, dtype=np.int64), return_counts=True)
            row[:] = times.astype(np.float32) @ model.embedding[tokens]
        normalise(rows)
        return rows

    def load(self) -> WordLlamaInference:
        """The model, loaded once. Raises FileNotFoundError if the wheel is incomplete."""
        with self._loading:
            if self._model is None:
                self._model = _load_wordllama()
            return self._model


def _load_wordllama() -> WordLlamaInference:
    # Importing wordllama calls logging.basicConfig, which does nothing where a handler is set.
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addHandler(placeholder)
    try:
        import wordllama
    finally:
        root.removeHandler(placeholder)
    model = wordllama.WordLlama.load(
        # Without a cache directory that holds the tokenizer, it is sought on the network.
        cache_dir=Path(wordllama.__file__).parent,
        dim=WordLlamaEmbedder.dimension,
        disable_download=True,
    )
    model.tokenizer.no_padding()
    return model
