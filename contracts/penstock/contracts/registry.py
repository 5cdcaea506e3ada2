"""Joins a message's `type` to the Struct of its data, through all versions. Never any I/O.

A message that changes gets a new version. The Struct of the old one stays declared, with an
upcaster to the next, for as long as messages of it may be stored:

    @event(SERVICE, "updated", version=1)
    class ProgressUpdatedV1(Message, frozen=True, kw_only=True): ...

    @event(SERVICE, "updated", version=2)
    class ProgressUpdated(Message, frozen=True, kw_only=True): ...

    @upcast(ProgressUpdatedV1)
    def updated_v2(old: ProgressUpdatedV1) -> ProgressUpdated: ...

Whoever reads gets the newest Struct, and only that can be written. An upcaster gets data alone, no
time, no ids and no other message, so that the same bytes give the same Struct for ever.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, TypeVar

import msgspec

from penstock.contracts.errors import InvalidMessage

Kind = Literal["command", "event"]
S = TypeVar("S", bound=type[msgspec.Struct])
Old = TypeVar("Old", bound=msgspec.Struct)
New = TypeVar("New", bound=msgspec.Struct)
Read = Callable[[bytes | msgspec.Raw], Any]
_TYPE = re.compile(r"(?P<name>.+)\.v(?P<version>[1-9]\d*)")


class MessageType(msgspec.Struct, frozen=True):
    """Where a Struct stands in the contracts: `penstock.<service>.<name>.v<version>`."""

    kind: Kind
    service: str
    name: str
    version: int

    def __str__(self) -> str:
        return f"{self.unversioned}.v{self.version}"

    @property
    def unversioned(self) -> str:
        """What all its versions have in common."""
        return f"penstock.{self.service}.{self.name}"


class Registry:
    """Every message there is. The contracts share one; a test may have its own.

    `readers` has for each type string what makes its newest Struct of the data. `written` has for
    each Struct that may be written its source and type.
    """

    def __init__(self) -> None:
        self.readers: dict[str, Read] = {}
        self.written: dict[type[msgspec.Struct], tuple[str, str]] = {}
        self._types: dict[type[msgspec.Struct], MessageType] = {}
        self._versions: dict[str, dict[int, type[msgspec.Struct]]] = {}
        self._upcasters: dict[type[msgspec.Struct], Callable[[Any], msgspec.Struct]] = {}

    # -- declaring ---------------------------------------------------------------------------

    def command(self, service: str, verb: str, *, version: int = 1) -> Callable[[S], S]:
        """Declare the Struct below as a command; `verb` is the last token of its subject."""
        return self._declare(MessageType("command", service, verb, version))

    def event(self, service: str, name: str, *, version: int = 1) -> Callable[[S], S]:
        """Declare the Struct below as an event."""
        return self._declare(MessageType("event", service, name, version))

    def upcast(self, old: type[Old]) -> Callable[[Callable[[Old], New]], Callable[[Old], New]]:
        """Declare the function below as the way from `old` to the next version, a pure one.

        Raises ValueError if `old` is no declared message, or has one already.
        """

        def add(function: Callable[[Old], New]) -> Callable[[Old], New]:
            if old not in self._types:
                raise ValueError(f"{old.__name__} is not declared as a command or an event.")
            if old in self._upcasters:
                raise ValueError(f"{self._types[old]} has two upcasters; keep one.")
            self._upcasters[old] = function
            return function

        return add

    def _declare(self, message_type: MessageType) -> Callable[[S], S]:
        def add(struct: S) -> S:
            versions = self._versions.setdefault(message_type.unversioned, {})
            if message_type.version in versions:
                raise ValueError(f"{message_type} is declared twice.")
            if any(self._types[other].kind != message_type.kind for other in versions.values()):
                raise ValueError(f"{message_type.unversioned} is both a command and an event.")
            self._types[struct] = message_type
            versions[message_type.version] = struct
            self._join(versions)
            return struct

        return add

    def _join(self, versions: dict[int, type[msgspec.Struct]]) -> None:
        """Read every version, directly or by its upcasters, and write the newest."""
        newest = max(versions)
        for version, struct in versions.items():
            message_type = self._types[struct]
            decode = msgspec.json.Decoder(struct).decode
            self.written.pop(struct, None)
            if version == newest:
                self.readers[str(message_type)] = decode
                self.written[struct] = (f"/penstock/{message_type.service}", str(message_type))
            else:
                reader = self._through_upcasters(decode, versions, version, newest)
                self.readers[str(message_type)] = reader

    def _through_upcasters(
        self, decode: Read, versions: dict[int, type[msgspec.Struct]], version: int, newest: int
    ) -> Read:
        def read(data: bytes | msgspec.Raw) -> Any:
            message = decode(data)
            for step in range(version, newest):
                message = self._upcasters[versions[step]](message)
                if type(message) is not versions[step + 1]:
                    came, due = type(message).__name__, versions[step + 1].__name__
                    raise TypeError(f"The upcaster to {due} returned {came}.")
            return message

        return read

    # -- looking up --------------------------------------------------------------------------

    def type_of(self, struct: type[msgspec.Struct]) -> MessageType:
        """The declared type of a message Struct. Raises KeyError for any other Struct."""
        return self._types[struct]

    def messages(self, service: str, kind: Kind) -> dict[str, type[msgspec.Struct]]:
        """Every declared message of one service in every version, by name: type string to Struct.

        Raises ValueError if an old version has no way to the newest.
        """
        found = {s: t for s, t in self._types.items() if t.service == service and t.kind == kind}
        self._check({t.unversioned for t in found.values()})
        return dict(sorted((str(message_type), struct) for struct, message_type in found.items()))

    def newest(self, service: str, kind: Kind) -> dict[str, type[msgspec.Struct]]:
        """The messages of one service that can be written, by name: name to Struct."""
        found = ((self._types[struct], struct) for struct in self.written)
        wanted = [(t.name, s) for t, s in found if t.service == service and t.kind == kind]
        return dict(sorted(wanted, key=lambda entry: entry[0]))

    def services(self) -> list[str]:
        """Every service that has messages, in the order of their declaration."""
        return list(dict.fromkeys(t.service for t in self._types.values()))

    def check(self) -> None:
        """Raise ValueError for the first old version that has no way to the newest."""
        self._check(self._versions)

    def _check(self, families: Any) -> None:
        for name in sorted(families):
            versions = self._versions[name]
            newest = max(versions)
            for version in range(1, newest + 1):
                if version not in versions:
                    raise ValueError(f"{name}.v{newest} is declared and {name}.v{version} is not.")
                has = versions[version] in self._upcasters
                if version < newest and not has:
                    raise ValueError(
                        f"{name}.v{version} has no upcaster to v{version + 1}: write "
                        f"@upcast({versions[version].__name__}) below the two."
                    )
                if version == newest and has:
                    raise ValueError(f"{name}.v{version} has an upcaster and no newer version.")

    # -- explaining --------------------------------------------------------------------------

    def unknown(self, type: str) -> InvalidMessage:
        """Why a message of `type`, which no reader is for, cannot be read."""
        match = _TYPE.fullmatch(type)
        versions = self._versions.get(match["name"]) if match else None
        if match and versions and int(match["version"]) > max(versions):
            known = f"which knows up to v{max(versions)}: upgrade it."
            text = f"{type} is newer than this process, {known}"
        else:
            text = f"Nothing here knows the type {type!r}; check its spelling and version."
        return InvalidMessage(text, path="$.type")

    def unwritable(self, struct: type[msgspec.Struct]) -> TypeError:
        """Why a message of this Struct cannot be written."""
        known = self._types.get(struct)
        if known is None:
            return TypeError(f"{struct.__name__} is not declared as a command or an event.")
        versions = self._versions[known.unversioned]
        return TypeError(
            f"{known} is an old form that is only read; write {versions[max(versions)].__name__}, "
            f"which is v{max(versions)}."
        )


MESSAGES = Registry()
"""The messages of the contracts."""
