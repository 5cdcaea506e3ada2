"""Every file of `contracts/schemas` as the code has it now: path to text. Never writes one."""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from artefacts.asyncapi import asyncapi
from artefacts.message_schemas import every_message, message_schema
from artefacts.surfaces import built_services
from penstock.contracts.registry import MESSAGES
from penstock.infra.dead_letters.endpoints import dead_letter_endpoints
from penstock.infra.openapi import document

Json = dict[str, Any]
_MESSAGES, _SUFFIX = "messages/", ".json"
_ASYNCAPI = "asyncapi.yaml"


async def documents() -> dict[str, str]:
    """Path below `contracts/schemas` to text; the same code gives the same bytes.

    Raises ValueError if the contracts do not fit together, such as for a missing upcaster.
    """
    structs = every_message()
    found = {
        f"{_MESSAGES}{name}{_SUFFIX}": _json(message_schema(MESSAGES.type_of(struct), struct))
        for name, struct in structs.items()
    }
    async with built_services() as services:
        found[_ASYNCAPI] = _yaml(asyncapi(structs, services))
        for service in services:
            api = document([service], title=f"Penstock: {service.name}")
            found[f"openapi/{service.name}.yaml"] = _yaml(api)
        dead = dead_letter_endpoints(services[0].bus)
    system = document([], title="Penstock: every process", process=dead)
    return {**found, "openapi/system.yaml": _yaml(system)}


def message_schemas(files: dict[str, str]) -> dict[str, Json]:
    """The schemas of messages among `files`: type string to schema."""
    return {
        path.removeprefix(_MESSAGES).removesuffix(_SUFFIX): msgspec.json.decode(text)
        for path, text in sorted(files.items())
        if path.startswith(_MESSAGES) and path.endswith(_SUFFIX)
    }


def asyncapi_document(files: dict[str, str]) -> Json:
    """The AsyncAPI document among `files`; empty where there is none."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: Json = yaml.load(files.get(_ASYNCAPI, ""), Loader=loader) or {}
    return found


def _json(document: Json) -> str:
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _yaml(document: Json) -> str:
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


class _Dumper(yaml.SafeDumper):
    """Says everything where it stands, and paragraphs as such.

    In pure Python: what libyaml makes of long lines depends on its version.
    """

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)
