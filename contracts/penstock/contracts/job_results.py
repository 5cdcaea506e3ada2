"""Large results of jobs: where they are kept in the object store. Never any I/O."""

from __future__ import annotations

from urllib.parse import quote

PREFIX = "results/"
INLINE = 64 * 1024  # bytes of JSON that an event carries
LARGEST = 1024 * 1024 * 1024  # bytes of JSON that the object store keeps of one job


def result_name(name: str, job: str, started: int) -> str:
    """The object with the result of the attempt at `job`, which is called `name`, whose JobStarted
    is at the sequence `started`.

    Another attempt has another one, so that who lost the job cannot touch its result.
    """
    return f"{PREFIX}{quote(name, safe='')}/{quote(job, safe='')}/{started}"


def result_of(stored: str) -> tuple[str, int]:
    """The job name, as it is written there, and the sequence in a name of `result_name`."""
    name, _, rest = stored.removeprefix(PREFIX).partition("/")
    return name, int(rest.rpartition("/")[2])
