"""Sound cut into utterances at its silences. Never listens to what is said."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from operator import mul
from typing import NamedTuple

from pocketsphinx import Endpointer, Vad

from penstock.demo.readers.sound import Chunk

RATE = 16_000  # Hz, what the acoustic model was trained at
WINDOW = 0.4  # seconds of sound that are judged together,
RATIO = 0.8  # and how much of them is speech when one begins, or silence when one ends
LONGEST = 15.0  # seconds decoded at once; more costs memory and stalls the progress


class Utterance(NamedTuple):
    """Speech between two silences: its start in seconds, its 16-bit samples at `RATE`.

    `done` is the part of the file (0 to 1) that was read for it.
    """

    start: float
    samples: bytes
    done: float


def utterances(sound: Iterable[Chunk]) -> Iterator[Utterance]:
    """The utterances in `sound`, by pocketsphinx's voice activity detector.

    One without a silence for 15 seconds is cut where it is quietest.
    """
    detector = Endpointer(window=WINDOW, ratio=RATIO, vad_mode=Vad.MEDIUM_LOOSE, sample_rate=RATE)
    start, speech = 0.0, list[bytes]()
    for frame in _frames(sound, detector.frame_bytes):
        detect = detector.end_stream if frame.is_last else detector.process
        if (heard := detect(frame.samples)) is None:
            continue
        start = start if speech else detector.speech_start
        speech.append(heard)
        if not detector.in_speech:
            yield Utterance(start, b"".join(speech), frame.done)
            speech = []
        elif len(speech) * detector.frame_length >= LONGEST:
            cut = _quietest(speech)
            yield Utterance(start, b"".join(speech[:cut]), frame.done)
            start, speech = start + cut * detector.frame_length, speech[cut:]


class _Frame(NamedTuple):
    samples: bytes
    done: float
    is_last: bool


def _frames(sound: Iterable[Chunk], size: int) -> Iterator[_Frame]:
    """`sound` in frames of `size` bytes; the last one, which may be shorter, is never empty."""
    held, done = b"", 0.0
    for chunk in sound:
        held, done = held + chunk.samples.tobytes(), chunk.done
        whole = (len(held) - 1) // size * size  # keeps at least a byte back for the last one
        for at in range(0, whole, size):
            yield _Frame(held[at : at + size], done, is_last=False)
        held = held[max(whole, 0) :]
    if held:
        yield _Frame(held, done, is_last=True)


def _quietest(frames: Sequence[bytes]) -> int:
    """The position of the frame with the least energy, in the later half."""
    return min(range(len(frames) // 2, len(frames)), key=lambda at: _energy(frames[at]))


def _energy(frame: bytes) -> int:
    samples = array("h", frame)
    return sum(map(mul, samples, samples))
