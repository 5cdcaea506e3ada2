"""Whether what is said on the bus may become what it became, and what to do instead. Pure.

Within a version a message may gain a field that can be left out. What is stored has to stay
readable, so that nothing may be narrower; and the readers of an event may be older than its
writer, so that an event may not be wider either. A command's only reader is its service.

Questions and answers have no versions, and are not stored: what was there stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from artefacts.comparison import Comparison, Policy

Json = dict[str, Any]
KIND = "x-kind"
_EVENT, _COMMAND = Policy(), Policy(wider=True)
_POLICIES = {"question": Policy(wider=True), "answer": Policy(narrower=True, values=True)}
_POLICIES["outcome"] = _POLICIES["answer"]
_GUIDE = "see contracts/penstock/contracts/registry.py"


def breaks(old: Mapping[str, Json], new: Mapping[str, Json]) -> list[str]:
    """A sentence for each change that is not allowed; both map a message's type to its schema."""
    newest: dict[str, int] = {}
    for name in [*old, *new]:
        message, _, version = name.rpartition(".v")
        newest[message] = max(newest.get(message, 0), int(version))
    found = [_removed(name) for name in old if name not in new]
    for name in old:
        if name in new:
            changes = _changes(old[name], new[name])
            found += [f"{name}: {what}: {_remedy(name, newest)}" for what in changes]
    return found


def _changes(old: Json, new: Json) -> list[str]:
    was, now = old.get(KIND), new.get(KIND)
    kind = [f"its kind changed from {was} to {now}"] if was != now else []
    policy = _COMMAND if was == "command" else _EVENT
    return kind + Comparison(old, new, policy).differences(old, new)


def breaks_of_answers(old: Json, new: Json) -> list[str]:
    """The same for what is asked and answered; both are AsyncAPI documents."""
    was, now = (document.get("components", {}).get("messages", {}) for document in (old, new))
    found = []
    for name in was:
        policy = _POLICIES.get(name.rpartition(".")[2])
        if policy is None:
            continue
        if name not in now:
            found.append(f"{name} is gone, and somebody may rely on it: put it back.")
            continue
        compared = Comparison(old, new, policy)
        changes = compared.differences(was[name]["payload"], now[name]["payload"])
        found += [f"{name}: {what}: put it back; a new form goes beside it." for what in changes]
    return found


def _removed(name: str) -> str:
    return (
        f"{name} is not declared any more, and stored messages may be of that type: declare it "
        f"again, an old version stays for ever with an upcaster to the next ({_GUIDE})."
    )


def _remedy(name: str, newest: Mapping[str, int]) -> str:
    message, _, version = name.rpartition(".v")
    last = newest[message]
    if int(version) < last:
        return f"put {name} back as it was, what is stored of it has that form."
    return (
        f"put {name} back as it was and declare the new form as {message}.v{last + 1}, with an "
        f"upcaster from v{last} ({_GUIDE})."
    )
