"""Sound at another rate: the same tone as loud, nothing aliased, the same in any chunks."""

from __future__ import annotations

from array import array
from math import pi, sin, sqrt

import pytest

from penstock.demo.readers.resampling import Resampler

TARGET = 16_000
LOUD = 10_000
every_rate = pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])


def tone(frequency: float, rate: int, seconds: float = 0.3) -> array[int]:
    samples = range(int(rate * seconds))
    return array("h", (round(LOUD * sin(2 * pi * frequency * i / rate)) for i in samples))


def resampled(samples: array[int], rate: int, chunk: int = 4096) -> array[int]:
    resampler = Resampler(rate, TARGET)
    output = array("h")
    for at in range(0, len(samples), chunk):
        output += resampler.feed(samples[at : at + chunk])
    return output + resampler.finish()


@every_rate
def test_a_tone_keeps_its_frequency_its_level_and_its_time(rate: int) -> None:
    found = resampled(tone(1_000, rate), rate)
    assert len(found) == pytest.approx(0.3 * TARGET, abs=1)
    expected = tone(1_000, TARGET)
    middle = range(400, len(found) - 400)
    assert max(abs(found[i] - expected[i]) for i in middle) < LOUD * 0.002


@pytest.mark.parametrize(
    ("rate", "frequency"), [(22_050, 9_000), (44_100, 8_600), (48_000, 15_000)]
)
def test_a_tone_above_what_the_rate_can_hold_is_gone(rate: int, frequency: int) -> None:
    middle = resampled(tone(frequency, rate), rate)[400:-400]
    assert sqrt(sum(sample**2 for sample in middle) / len(middle)) < LOUD / 1000


@every_rate
def test_the_size_of_the_chunks_changes_nothing(rate: int) -> None:
    samples = tone(440, rate, 0.05)
    assert resampled(samples, rate, chunk=7) == resampled(samples, rate, chunk=10**6)


def test_sound_at_the_right_rate_is_left_as_it_is() -> None:
    samples = tone(440, TARGET)
    assert resampled(samples, TARGET) == samples


def test_the_loudest_sound_is_clipped_where_it_overshoots() -> None:
    square = array("h", ([32767] * 50 + [-32768] * 50) * 100)
    found = resampled(square, 44_100)
    assert (min(found), max(found)) == (-32768, 32767)
