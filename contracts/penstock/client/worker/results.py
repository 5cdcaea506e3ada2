"""Where results go: small ones into the event, large ones into the object store.

Never looks at what a result means.
"""

from __future__ import annotations

from typing import Any

import msgspec

from penstock.contracts.errors import TooLarge
from penstock.contracts.job_results import INLINE, LARGEST, result_name
from penstock.infra.objects import Objects


async def keep(
    objects: Objects, name: str, job: str, started: int, value: Any
) -> tuple[msgspec.Raw | None, str | None]:
    """The result as the event carries it, or the name under which it is stored.

    `started` is the sequence of the attempt's JobStarted.

    Raises TooLarge above 1 GiB; TypeError and the like for what JSON cannot carry; Unavailable.
    """
    result = msgspec.json.encode(value)
    if len(result) <= INLINE:
        return msgspec.Raw(result), None
    if len(result) > LARGEST:
        raise TooLarge(
            f"The result has {len(result)} bytes and a job keeps at most {LARGEST}; "
            "store it elsewhere and return where."
        )
    stored = result_name(name, job, started)
    await objects.put(stored, result)
    return None, stored


async def fetched(objects: Objects, name: str) -> Any:
    """A result that was stored. Raises NotFound once it was let go of, Damaged or Unavailable."""
    return msgspec.json.decode(await objects.get(name))
