from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.search.engines.words import Tokenizer, terms

TOKENIZER = Tokenizer()


def asked(text: str) -> dict[str, int]:
    return {" ".join(term.stems): term.times for term in terms(text, TOKENIZER)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Countries country's COUNTRY", {"countri": 3}),
        ("don't you'll planning", {"don": 1, "plan": 1}),
        ("what is the plan for it", {"plan": 1}),
        ("to be or not to be", {"to": 2, "be": 2, "or": 1, "not": 1}),
        ('"to be or not"', {"to be or not": 1}),
        ('"quarterly planning" plan', {"quarterli plan": 1, "plan": 1}),
        ('"quarterly" plan', {"quarterli": 1, "plan": 1}),
        ('say "" and " ! " plan', {"sai": 1, "plan": 1}),
        ('5" pipe', {"5": 1, "pipe": 1}),
        ("„grüne Äpfel“", {"grune apfel": 1}),
        ("state-of-the-art", {"state": 1, "art": 1}),
        ("?!", {}),
        ("", {}),
    ],
)
def test_a_query_asks_for_these_terms(text: str, expected: dict[str, int]) -> None:
    assert asked(text) == expected


def test_only_a_phrase_is_required() -> None:
    required = [term.required for term in terms('"green apples" pie', TOKENIZER)]
    assert required == [True, False]


@given(st.text())
def test_offsets_count_characters_and_lead_to_the_word(text: str) -> None:
    end = 0
    for word in TOKENIZER.words(text):
        assert end <= word.start < word.end <= len(text)
        end = word.end
        (alone,) = TOKENIZER.words(text[word.start : word.end])
        assert alone.stem == word.stem


def test_offsets_are_right_after_wide_characters() -> None:
    text = "😀 é 漢字 running"
    assert [text[w.start : w.end] for w in TOKENIZER.words(text)] == ["é", "漢字", "running"]


def test_threads_may_share_a_tokenizer() -> None:
    texts = [f"countries{n} running{n} " * 50 for n in range(200)]
    alone = [TOKENIZER.words(text) for text in texts]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(TOKENIZER.words, texts)) == alone
