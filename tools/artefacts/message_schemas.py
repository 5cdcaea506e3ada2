"""One JSON Schema (2020-12) for each message type and version: its envelope with its data."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import Any

import msgspec

import penstock.contracts
from penstock.contracts.envelope import Envelope
from penstock.contracts.registry import MESSAGES, Kind, MessageType
from penstock.infra.json_schema import described, json_schemas

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Json = dict[str, Any]
_KINDS: tuple[Kind, ...] = ("command", "event")


def every_message() -> dict[str, type[msgspec.Struct]]:
    """Every message of the contracts, in every version: type string to Struct, by name.

    Raises ValueError if an old version has no way to the newest.
    """
    for module in pkgutil.iter_modules(penstock.contracts.__path__):
        import_module(f"penstock.contracts.{module.name}")
    MESSAGES.check()
    found = {
        name: struct
        for service in MESSAGES.services()
        for kind in _KINDS
        for name, struct in MESSAGES.messages(service, kind).items()
    }
    return dict(sorted(found.items()))


def message_schema(kind: MessageType, struct: type[msgspec.Struct]) -> Json:
    """The schema of the message that stands at `kind`, whose data are a `struct`."""
    (_, data), definitions = json_schemas([Envelope, struct], "#/$defs/{name}")
    envelope = definitions.pop("Envelope")
    name = str(kind)
    properties = {
        **envelope["properties"],
        "source": {"const": f"/penstock/{kind.service}"},
        "type": {"const": name},
        "data": data,
    }
    return {
        "$schema": DIALECT,
        "$id": f"urn:penstock:message:{name}",
        "title": name,
        "description": described(struct),
        "x-kind": kind.kind,
        "type": "object",
        "properties": properties,
        "required": envelope["required"],
        "$defs": definitions,
    }
