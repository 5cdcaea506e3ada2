"""How long finished aggregates stay in the log, by service and state. Never any I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta

from penstock.contracts.errors import InvalidMessage
from penstock.contracts.subjects import SERVICES

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_RULE = re.compile(r"(?P<service>\w+)(?:\.(?P<state>\w+))?=(?P<number>\d+)(?P<unit>[smhd])")

Rules = dict[str, dict[str | None, timedelta]]


def parse(text: str) -> Rules:
    """`jobs.failed=90d,jobs=30d` as service to state, None for every other, to age.

    Raises InvalidMessage that names what is not understood.
    """
    rules: Rules = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        found = _RULE.fullmatch(part)
        if found is None or found["service"] not in SERVICES:
            raise InvalidMessage(
                f"{part!r} says not how long to keep what: write SERVICE=AGE or "
                "SERVICE.STATE=AGE, such as jobs.failed=90d (s, m, h or d), with a comma between; "
                f"the services are {', '.join(SERVICES)}."
            )
        age = timedelta(seconds=int(found["number"]) * UNITS[found["unit"]])
        rules.setdefault(found["service"], {})[found["state"]] = age
    return rules


def cutoffs(
    rules: Mapping[str | None, timedelta], states: tuple[str, ...], now: datetime
) -> dict[str, datetime]:
    """For each of the final `states` that has a rule: what ended before then is to go."""
    ages = {state: rules.get(state, rules.get(None)) for state in states}
    return {state: now - age for state, age in ages.items() if age is not None}
