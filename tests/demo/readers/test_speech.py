"""Speech, really recognised: a recording where there is one, and sounds that are made here."""

from __future__ import annotations

import wave
from array import array
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import pytest

from penstock.demo.readers import Passage, UnreadableFile, read_passages
from penstock.demo.readers.sound import Chunk
from penstock.demo.readers.speech import LONGEST, MOST_WORDS, Word, passages_of
from penstock.demo.readers.utterances import LONGEST as LONGEST_UTTERANCE
from penstock.demo.readers.utterances import RATE, utterances

# Kennedy's inaugural address, 11 s: in the public domain, but not a part of this repository.
RECORDING = Path(__file__).parents[4] / "shared/samples/jfk.wav"
SAID = (
    "and so my fellow americans ask not what your country can do for you"
    " ask what you can do for your country"
)


@pytest.fixture(scope="module")
def heard() -> tuple[list[Passage], list[float]]:
    """The passages of the recording, and the progress that was told."""
    if not RECORDING.exists():
        pytest.skip(f"{RECORDING} is not here")
    told: list[float] = []
    return read_passages(RECORDING, on_progress=told.append), told


def buzz(seconds: float, level: int = 8_000) -> array[int]:
    """A sawtooth of 130 Hz, which the detector takes for a voice."""
    period = RATE // 130
    return array(
        "h", (level * (2 * (i % period) - period) // period for i in range(int(seconds * RATE)))
    )


def silence(seconds: float) -> array[int]:
    return array("h", bytes(2 * int(seconds * RATE)))


def spoken(text: str, *, at: float = 0.0, pace: float = 0.3) -> list[Word]:
    return [
        Word(word, at + i * pace, at + (i + 1) * pace - 0.05) for i, word in enumerate(text.split())
    ]


def texts(words: Sequence[Word]) -> list[str]:
    return [passage.text for passage in passages_of(words)]


def test_the_recording_is_understood(heard: tuple[list[Passage], list[float]]) -> None:
    words = " ".join(passage.text for passage in heard[0])
    assert "what your country can do for you" in words
    assert word_errors(SAID.split(), words.split()) <= len(SAID.split()) // 3


def test_passages_carry_times_in_order_within_the_recording(
    heard: tuple[list[Passage], list[float]],
) -> None:
    times = [(p.start or 0.0, p.end or 0.0) for p in heard[0]]
    assert all(0 <= start < end <= 11 and end - start <= LONGEST for start, end in times)
    assert all(before[1] <= after[0] for before, after in pairwise(times))
    country = next(p for p in heard[0] if "what your country" in p.text)
    assert country.end == pytest.approx(7.6, abs=0.3)  # where a listener hears it


def test_the_recording_is_told_of_as_it_goes(heard: tuple[list[Passage], list[float]]) -> None:
    told = heard[1]
    assert told == sorted(told)
    assert 0 < told[0] < 1
    assert told[-1] == 1.0


def test_words_come_without_pronunciations_and_noises(
    heard: tuple[list[Passage], list[float]],
) -> None:
    words = " ".join(passage.text for passage in heard[0])
    assert words
    assert not set("()<>[]") & set(words)


@pytest.mark.parametrize("kind", ["silence", "noise", "nothing"])
def test_a_recording_without_speech_is_refused(kind: str, tmp_path: Path) -> None:
    random = Random(1)
    sounds = {
        "silence": silence(2),
        "noise": array("h", (random.randint(-3000, 3000) for _ in range(2 * RATE))),
        "nothing": silence(0),
    }
    path = tmp_path / "quiet.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", "not compressed"))
        file.writeframes(sounds[kind].tobytes())
    with pytest.raises(UnreadableFile, match=r"quiet\.wav: no speech found; choose a recording"):
        read_passages(path)


def test_utterances_begin_and_end_at_silences() -> None:
    sound = silence(1) + buzz(2) + silence(1) + buzz(1) + silence(1)
    found = list(utterances([Chunk(sound, 1.0)]))
    assert [utterance.start for utterance in found] == pytest.approx([1, 4], abs=0.2)
    assert [len(u.samples) / 2 / RATE for u in found] == pytest.approx([2, 1], abs=0.4)


def test_speech_up_to_the_end_of_the_file_is_an_utterance() -> None:
    for extra in (0, 1, 479):  # whole frames, and a last one that is not whole
        sound = silence(0.48) + buzz(0.96) + array("h", [0] * extra)
        (found,) = utterances([Chunk(sound, 1.0)])
        assert found.start + len(found.samples) / 2 / RATE == pytest.approx(1.44, abs=0.05)


def test_the_size_of_the_chunks_changes_no_utterance() -> None:
    sound = silence(0.5) + buzz(1) + silence(0.7)
    parts = [Chunk(sound[at : at + 777], 0.5) for at in range(0, len(sound), 777)]
    (one,), (other,) = utterances([Chunk(sound, 0.5)]), utterances(parts)
    assert one == other


def test_an_utterance_without_end_is_cut_where_it_is_quietest() -> None:
    sound = buzz(12) + buzz(0.3, level=2_000) + buzz(12)
    first, second = utterances([Chunk(sound, 1.0)])
    lengths = [len(utterance.samples) / 2 / RATE for utterance in (first, second)]
    assert lengths[0] < LONGEST_UTTERANCE
    assert first.start + lengths[0] == pytest.approx(second.start)
    assert 12 <= second.start <= 12.3
    assert sum(lengths) == pytest.approx(24.3, abs=0.2)


def test_a_pause_ends_a_passage_of_some_words_but_not_of_few() -> None:
    assert texts([*spoken("and so my friends"), *spoken("ask not", at=2)]) == [
        "and so my friends",
        "ask not",
    ]
    assert texts([*spoken("and"), *spoken("so it is", at=1)]) == ["and so it is"]
    assert texts([*spoken("and"), *spoken("so it is", at=3)]) == ["and", "so it is"]


def test_speech_without_a_pause_is_cut_by_words_and_by_seconds() -> None:
    fast = list(passages_of(spoken("word " * 40)))
    assert [len(passage.text.split()) for passage in fast] == [MOST_WORDS, MOST_WORDS, 10]
    slow = list(passages_of(spoken("word " * 20, pace=1)))
    assert [len(passage.text.split()) for passage in slow] == [8, 8, 4]


def test_a_passage_lasts_from_its_first_word_to_its_last() -> None:
    (passage,) = passages_of(spoken("one two three", at=5))
    assert [passage.start, passage.end] == pytest.approx([5.0, 5.85])


def word_errors(said: Sequence[str], heard: Sequence[str]) -> int:
    """The least number of words to put in, take out or replace (Levenshtein)."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        above, row = row, [i]
        for j, other in enumerate(heard, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (word != other)))
    return row[-1]
