"""WAV files, read as mono samples at one rate in chunks. Never holds a whole file."""

from __future__ import annotations

import shlex
import wave
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from penstock.demo.readers.files import open_file, size_of
from penstock.demo.readers.passage import UnreadableFile
from penstock.demo.readers.resampling import Resampler

RATES = range(4_000, 192_001)  # Hz: below there is no speech left, above it no recorder


class Chunk(NamedTuple):
    """Mono 16-bit samples, and the part of the file (0 to 1) that is read with them."""

    samples: array[int]
    done: float


def read_samples(path: Path, rate: int) -> Iterator[Chunk]:
    """The sound of `path` in chunks of about a second: channels mixed down, resampled to `rate`.

    Raises UnreadableFile for anything but PCM with 16 bits a sample.
    """
    with open_file(path) as file:
        sound = _opened(path, file)
        if sound.getsampwidth() != 2:
            raise _unusable(path, f"{sound.getsampwidth() * 8} bits a sample")
        if sound.getframerate() not in RATES:
            raise _unusable(path, f"{sound.getframerate()} Hz")
        # A recorder that was cut off leaves a length in the header that the file does not have.
        frames = min(sound.getnframes(), size_of(file) // (2 * sound.getnchannels()))
        yield from _chunks(sound, frames, Resampler(sound.getframerate(), rate))


def _opened(path: Path, file: BinaryIO) -> wave.Wave_read:
    try:
        return wave.Wave_read(file)
    except (wave.Error, EOFError) as error:
        raise _unusable(path, str(error) or "it breaks off") from error


def _unusable(path: Path, why: str) -> UnreadableFile:
    return UnreadableFile(
        f"{path} is not a WAV file of 16-bit PCM ({why});"
        f" convert it: ffmpeg -i {shlex.quote(str(path))} -c:a pcm_s16le -ac 1 -ar 16000 speech.wav"
    )


def _chunks(sound: wave.Wave_read, frames: int, resampler: Resampler) -> Iterator[Chunk]:
    read = 0
    while mono := _mono(sound.readframes(sound.getframerate()), sound.getnchannels()):
        read += len(mono)
        yield Chunk(resampler.feed(mono), min(read / max(frames, 1), 1.0))
    yield Chunk(resampler.finish(), 1.0)


def _mono(raw: bytes, channels: int) -> array[int]:
    """The mean of the channels; a last frame that is not whole is left out."""
    samples = array("h", raw[: len(raw) // (2 * channels) * 2 * channels])
    if channels == 1:
        return samples
    frames = zip(*(samples[channel::channels] for channel in range(channels)), strict=True)
    return array("h", (sum(frame) // channels for frame in frames))
