"""Two JSON Schemas of the same thing compared, for those who read and write it. Never any I/O."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec

from artefacts.constraints import ANY, NULL, Change, constraints, types

Json = dict[str, Any]
_OLDER = ", and older readers refuse that"


class Policy(msgspec.Struct, frozen=True):
    """Which way something may change; what it says can always gain a field to be left out.

    `narrower`: its writers are never older than its readers, as with an answer. `wider`: its
    readers are never older than its writers, as with a command. `values`: it may say what it has
    not said before, such as a new state.
    """

    narrower: bool = False
    wider: bool = False
    values: bool = False


class Comparison:
    """Of two documents, to whose definitions the compared schemas may refer."""

    def __init__(self, old: Json, new: Json, policy: Policy) -> None:
        self._old, self._new, self._policy = old, new, policy
        self._seen: set[str] = set()

    def differences(self, old: Json, new: Json) -> list[str]:
        """What is not allowed of a change from `old` to `new`, each as half a sentence."""
        return list(dict.fromkeys(self._compare(old, new, "")))

    def _compare(self, old: Any, new: Any, path: str) -> Iterator[str]:
        if self._was_seen(old, new):
            return
        at = f"`{path}`" if path else "the message"
        was, now = _forms(old, self._old), _forms(new, self._new)
        yield from self._of_types(types(was), types(now), at)
        yield from _of_defaults(old, new, at)
        was, now = _without_null(was), _without_null(now)
        if len(was) != len(now):
            yield f"{at} has {len(now)} forms to choose from, and had {len(was)}"
        for before, after in zip(was, now, strict=False):
            for change, what in constraints(before, after):
                if not (change == "wider" and self._policy.values):
                    yield from self._unless_allowed(change, what.format(at=at))
            yield from self._of_fields(before, after, path)
            yield from self._of_items(before, after, path)

    def _was_seen(self, old: Any, new: Any) -> bool:
        """Whether both refer to definitions that were compared, or are being so."""
        if not (isinstance(old, dict) and isinstance(new, dict) and "$ref" in old):
            return False
        pair = json.dumps([old, new], sort_keys=True)
        seen = pair in self._seen
        self._seen.add(pair)
        return seen

    def _unless_allowed(self, change: Change, what: str) -> Iterator[str]:
        if change == "narrower" and not self._policy.narrower:
            yield what
        if change == "wider" and not self._policy.wider:
            yield what + _OLDER

    def _of_types(self, was: set[str], now: set[str], at: str) -> Iterator[str]:
        lost, gained = set() if ANY in now else was - now, now - was
        what = f"the type of {at} changed from {_listed(was)} to {_listed(now)}"
        if lost - {NULL} or gained - {NULL, ANY}:
            yield what
        elif lost or gained:
            yield from self._unless_allowed("narrower" if lost else "wider", what)

    def _of_fields(self, old: Json, new: Json, path: str) -> Iterator[str]:
        was, now = old.get("properties", {}), new.get("properties", {})
        needed, needs = set(old.get("required", ())), set(new.get("required", ()))
        for name in was:
            field = _joined(path, name)
            if name not in now:
                yield f"`{field}` was removed"
                continue
            if name in needs - needed:
                lost = f"`{field}` has no default any more, and stored messages may leave it out"
                yield from self._unless_allowed("narrower", lost)
            if name in needed - needs:
                yield from self._unless_allowed("wider", f"`{field}` may be left out now")
            yield from self._compare(was[name], now[name], field)
        for name in sorted(needs - set(was)):
            new_one = f"`{_joined(path, name)}` is new and has no default"
            yield from self._unless_allowed("narrower", new_one)

    def _of_items(self, old: Json, new: Json, path: str) -> Iterator[str]:
        for key in ("items", "additionalProperties", "additionalItems", "prefixItems"):
            was, now = old.get(key, {}), new.get(key, {})
            if isinstance(was, list) and isinstance(now, list):
                for position, (before, after) in enumerate(zip(was, now, strict=False)):
                    yield from self._compare(before, after, f"{path}[{position}]")
            elif was or now:
                yield from self._compare(was, now, f"{path}[]")


def _of_defaults(old: Any, new: Any, at: str) -> Iterator[str]:
    was, now = _default(old), _default(new)
    if was is not None and now is not None and was != now:
        yield (
            f"the default of {at} changed from {was} to {now}, and with it the meaning of stored "
            "messages that leave it out"
        )


def _default(schema: Any) -> str | None:
    if not isinstance(schema, dict) or "default" not in schema:
        return None
    return json.dumps(schema["default"], sort_keys=True)


def _forms(schema: Any, whole: Json) -> list[Json]:
    """What there is to choose from, each resolved; a schema without a choice is the only one."""
    if isinstance(schema, bool):
        return [{} if schema else {"not": {}}]
    if "$ref" in schema:
        definition = whole
        for part in schema["$ref"].removeprefix("#/").split("/"):
            definition = definition[part]
        return _forms(definition, whole)
    if "anyOf" in schema:
        return [form for choice in schema["anyOf"] for form in _forms(choice, whole)]
    return [schema]


def _without_null(forms: list[Json]) -> list[Json]:
    return [form for form in forms if form.get("type") != NULL]


def _joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _listed(names: set[str]) -> str:
    return " or ".join(sorted(names))
