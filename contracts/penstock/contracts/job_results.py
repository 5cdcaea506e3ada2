"""Large results of jobs: where they are kept in the object store. Never any I/O."""

from __future__ import annotations

PREFIX = "results/"
INLINE = 64 * 1024  # bytes of JSON that an event carries
LARGEST = 1024 * 1024 * 1024  # bytes of JSON that the object store keeps of one job


def result_name(job: str, started: int) -> str:
    """The object with the result of the attempt whose JobStarted is at the sequence `started`.

    Another attempt has another one, so that who lost the job cannot touch its result.
    """
    return f"{PREFIX}{job}/{started}"
