"""Speech turned into passages with times, offline, by pocketsphinx and the model in its wheel.

Never more than one utterance in memory. The model knows American English alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from pocketsphinx import Decoder

from penstock.demo.readers.passage import Passage, UnreadableFile
from penstock.demo.readers.sound import read_samples
from penstock.demo.readers.utterances import RATE, Utterance, utterances

LONGEST = 8.0  # seconds from the first word of a passage to the end of its last
MOST_WORDS = 15
PAUSE = 0.5  # seconds without a word that end a passage of at least so many words:
FEWEST_WORDS = 4
LONG_PAUSE = 2.0  # seconds that end any passage

_PRONUNCIATION = re.compile(r"\(\d+\)\Z")  # the dictionary has `the` and `the(2)`
_FILLERS = ("<", "[")  # `<s>`, `<sil>`, `[NOISE]`


class Word(NamedTuple):
    """A word that was heard, and when: seconds from the beginning of the file."""

    text: str
    start: float
    end: float


def transcribe(path: Path, on_progress: Callable[[float], None]) -> Iterator[Passage]:
    """What is said in a WAV file, in passages of at most 8 seconds and 15 words.

    `on_progress` is called with the part that is done (0 to 1) after each utterance. Takes about
    a third of the length of the speech and holds the interpreter lock. Raises UnreadableFile.
    """
    found = False
    for passage in passages_of(_words(path, on_progress)):
        found = True
        yield passage
    if not found:
        raise UnreadableFile(
            f"{path}: no speech found; choose a recording in which somebody speaks English."
        )


def _words(path: Path, on_progress: Callable[[float], None]) -> Iterator[Word]:
    # Against the defaults: the second pass weighs the language as the first does (6.5, not 8.5),
    # and no hypothesis is dropped because there are many. Both leave fewer words wrong.
    decoder = Decoder(fwdflatlw=6.5, maxhmmpf=-1, loglevel="FATAL")
    for utterance in utterances(read_samples(path, RATE)):
        yield from _heard(decoder, utterance)
        on_progress(utterance.done)


def _heard(decoder: Decoder, utterance: Utterance) -> Iterator[Word]:
    decoder.start_utt()
    # In one piece, so that the cepstral mean is that of the whole utterance: piece by piece it is
    # a running estimate, with which most words come out wrong.
    decoder.process_raw(utterance.samples, full_utt=True)
    decoder.end_utt()
    second = decoder.config["frate"]
    for word in decoder.seg() or ():
        if not word.word.startswith(_FILLERS):
            yield Word(
                text=_PRONUNCIATION.sub("", word.word),
                start=round(utterance.start + word.start_frame / second, 2),
                end=round(utterance.start + (word.end_frame + 1) / second, 2),
            )


def passages_of(words: Iterable[Word]) -> Iterator[Passage]:
    """`words` grouped at pauses, and where a passage would grow too long."""
    held: list[Word] = []
    for word in words:
        if held and _ends_before(word, held):
            yield _passage(held)
            held = []
        held.append(word)
    if held:
        yield _passage(held)


def _ends_before(word: Word, held: Sequence[Word]) -> bool:
    pause = word.start - held[-1].end
    return (
        pause >= LONG_PAUSE
        or (pause >= PAUSE and len(held) >= FEWEST_WORDS)
        or len(held) == MOST_WORDS
        or word.end - held[0].start > LONGEST
    )


def _passage(words: Sequence[Word]) -> Passage:
    return Passage(
        text=" ".join(word.text for word in words), start=words[0].start, end=words[-1].end
    )
