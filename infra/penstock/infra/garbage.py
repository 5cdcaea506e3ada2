"""Has Python look less often for objects that refer to each other in circles.

For a program that is Penstock's own, never for one that only uses it. Python looks whenever 700
objects more were made than dropped, and now and then at all there are. With thousands of jobs in
hand, all of them alive, that was a quarter of what a job costs, and found nothing.
"""

from __future__ import annotations

import gc

MORE = 50_000  # objects, of which most take 100 to 300 bytes
YOUNG, OLD = 20, 20  # looks at the new ones, then at those that outlived one, before a wider look


def look_seldom() -> None:
    """Set the thresholds, and never look at what is there by now."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(MORE, YOUNG, OLD)
