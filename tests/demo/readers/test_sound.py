"""WAV files as recorders and tools leave them."""

from __future__ import annotations

import wave
from array import array
from pathlib import Path

import pytest

from penstock.demo.readers import UnreadableFile
from penstock.demo.readers.sound import read_samples

RATE = 16_000


def write(path: Path, *channels: array[int], rate: int = RATE, width: int = 2) -> Path:
    frames = array("h", (sample for frame in zip(*channels, strict=True) for sample in frame))
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(channels))
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(frames.tobytes())
    return path


def ramp(length: int, step: int = 1) -> array[int]:
    return array("h", (i * step % 20_000 for i in range(length)))


def samples(path: Path) -> array[int]:
    whole = array("h")
    for chunk in read_samples(path, RATE):
        whole += chunk.samples
    return whole


def refusal(path: Path) -> str:
    with pytest.raises(UnreadableFile) as refused:
        samples(path)
    assert str(refused.value).startswith(str(path))
    return str(refused.value)


def test_mono_at_the_right_rate_is_read_as_it_is_in_chunks_of_a_second(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", ramp(40_000))
    chunks = list(read_samples(path, RATE))
    assert samples(path) == ramp(40_000)
    assert [len(chunk.samples) for chunk in chunks] == [16_000, 16_000, 8_000, 0]
    assert [chunk.done for chunk in chunks] == [0.4, 0.8, 1.0, 1.0]


def test_channels_are_mixed_down_to_their_mean(tmp_path: Path) -> None:
    silence, left, rear = array("h", bytes(200)), ramp(100, 3), ramp(100, 9)
    opposite = array("h", (-sample for sample in left))
    assert samples(write(tmp_path / "a.wav", left, left)) == left
    assert samples(write(tmp_path / "b.wav", left, opposite)) == silence
    assert samples(write(tmp_path / "c.wav", left, left, rear)) == ramp(100, 5)


def test_two_loud_channels_do_not_overflow(tmp_path: Path) -> None:
    loud = array("h", [32767, -32768] * 50)
    assert samples(write(tmp_path / "a.wav", loud, loud)) == loud


def test_another_rate_is_resampled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", ramp(44_100), ramp(44_100), rate=44_100)
    assert len(samples(path)) == RATE


@pytest.mark.parametrize(("width", "bits"), [(1, 8), (3, 24), (4, 32)])
def test_other_widths_are_refused_with_the_way_to_convert_them(
    width: int, bits: int, tmp_path: Path
) -> None:
    path = write(tmp_path / "a b.wav", ramp(1200), width=width)
    advice = f"({bits} bits a sample); convert it: ffmpeg -i '{path}' -c:a pcm_s16le"
    assert advice in refusal(path)


@pytest.mark.parametrize("encoding", [3, 7, 65534], ids=["float", "mu-law", "extensible"])
def test_other_encodings_are_refused(encoding: int, tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", ramp(100))
    raw = bytearray(path.read_bytes())
    raw[20:22] = encoding.to_bytes(2, "little")
    path.write_bytes(raw)
    assert "convert it: ffmpeg" in refusal(path)


@pytest.mark.parametrize("rate", [1, 3_999, 2_000_000_000])
def test_a_rate_that_no_recorder_has_is_refused(rate: int, tmp_path: Path) -> None:
    assert f"({rate} Hz)" in refusal(write(tmp_path / "a.wav", ramp(100), rate=rate))


@pytest.mark.parametrize("raw", [b"ID3\x04 an mp3 file", b"RIFF", b"RIFF\x04\0\0\0WAVE"])
def test_what_is_no_wav_file_is_refused(raw: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(raw)
    assert "is not a WAV file of 16-bit PCM (" in refusal(path)


def test_a_recording_that_was_cut_off_is_read_to_where_it_ends(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", ramp(20_000), ramp(20_000))
    path.write_bytes(path.read_bytes()[: 44 + 4 * 10_000 + 3])
    assert samples(path) == ramp(10_000)


def test_progress_counts_what_the_file_has_not_what_its_header_says(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", ramp(32_000))
    raw = bytearray(path.read_bytes())
    raw[4:8] = raw[40:44] = b"\xff\xff\xff\xff"  # as written into a pipe
    path.write_bytes(raw)
    done = [chunk.done for chunk in read_samples(path, RATE)]
    assert done[0] == pytest.approx(0.5, abs=0.01)
    assert done[-1] == 1.0
