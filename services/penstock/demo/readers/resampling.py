"""Sound at one sample rate turned into sound at another, in chunks. Never opens a file.

Band-limited interpolation: an output sample is the input around its instant, weighted with a
windowed sinc that cuts off below the lower of both Nyquist frequencies, so that nothing aliases.
Source: J. O. Smith, https://ccrma.stanford.edu/~jos/resample/.
"""

from __future__ import annotations

from array import array
from functools import cache
from math import ceil, cos, gcd, pi, sin
from operator import mul

ZERO_CROSSINGS = 32  # of the sinc, to each side
CUTOFF = 0.91  # of the lower Nyquist frequency: a Blackman window this long is 74 dB down at 1.0
LOWEST, HIGHEST = -(2**15), 2**15 - 1


class Resampler:
    """A stream of 16-bit samples at `source` Hz, given on at `target` Hz."""

    def __init__(self, source: int, target: int) -> None:
        shared = gcd(source, target)
        self._step, self._phases = source // shared, target // shared
        narrowing = min(1.0, target / source)
        self._cutoff = CUTOFF * narrowing
        self._reach = ceil(ZERO_CROSSINGS / narrowing) if source != target else 0
        self._held = array("h", bytes(2 * self._reach))  # silence before the beginning
        self._at = self._reach * self._phases  # the next output's place in `_held`, in phases
        self._taps = cache(self._computed_taps)  # they recur: every second has the same phases

    def feed(self, samples: array[int]) -> array[int]:
        """The output that `samples` complete; what needs later input is kept for later."""
        if not self._reach:
            return samples
        self._held.extend(samples)
        output = array("h")
        while (left := self._at // self._phases) + self._reach < len(self._held):
            around = self._held[left - self._reach + 1 : left + self._reach + 1]
            value = round(sum(map(mul, self._taps(self._at % self._phases), around)))
            output.append(min(max(value, LOWEST), HIGHEST))
            self._at += self._step
        self._forget()
        return output

    def finish(self) -> array[int]:
        """The rest of the output, as if silence came after the end."""
        return self.feed(array("h", bytes(2 * self._reach)))

    def _forget(self) -> None:
        """Let go of what no later output needs."""
        passed = max(0, self._at // self._phases - self._reach + 1)
        del self._held[:passed]
        self._at -= passed * self._phases

    def _computed_taps(self, phase: int) -> array[float]:
        """The weights of the input from `reach - 1` samples before an output to `reach` after."""
        after = range(1 - self._reach, self._reach + 1)
        taps = [self._weight(offset - phase / self._phases) for offset in after]
        total = sum(taps)
        return array("d", (tap / total for tap in taps))

    def _weight(self, distance: float) -> float:
        angle = pi * self._cutoff * distance
        place = pi * distance / self._reach
        window = 0.42 + 0.5 * cos(place) + 0.08 * cos(2 * place)
        return window * (sin(angle) / angle if angle else 1.0)
