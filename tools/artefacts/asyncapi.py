"""The AsyncAPI 3.0 document: every subject, what is said on it and who answers.

Format: https://www.asyncapi.com/docs/reference/specification/v3.0.0
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from artefacts.asyncapi_channels import Channel, channels
from artefacts.asyncapi_messages import Messages
from penstock.contracts.envelope import CONTENT_TYPE
from penstock.contracts.push import PROTOCOL
from penstock.infra.service import Service
from penstock.infra.settings import Settings

Json = dict[str, Any]
_BINDING = "0.1.0"


def asyncapi(structs: dict[str, type[msgspec.Struct]], services: Sequence[Service[Any]]) -> Json:
    """The description of the bus and of the WebSocket. `structs` are all messages by type."""
    messages = Messages(structs, services)
    found = channels(services)
    return {
        "asyncapi": "3.0.0",
        "info": _INFO,
        "defaultContentType": CONTENT_TYPE,
        "servers": _SERVERS,
        "channels": dict(sorted(entry for c in found for entry in _channel_entries(c))),
        "operations": dict(sorted(entry for c in found for entry in _operations(c))),
        "components": {
            "messages": messages.messages,
            "schemas": messages.schemas,
            "securitySchemes": {"password": {"type": "userPassword"}},
        },
    }


_INFO: Json = {
    "title": "Penstock",
    "version": "1",
    "description": "Event-sourced jobs, progress, notifications, exports, caching and search over "
    "NATS JetStream. Every subject begins with a prefix, a setting that is `penstock` here. A "
    "stored message is a CloudEvents 1.0 event; unknown fields are ignored, and what changes "
    "gets a new version in its type.",
    "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
}
_SERVERS: Json = {
    "nats": {
        "host": "127.0.0.1:4222",
        "protocol": "nats",
        "description": "A NATS server with JetStream, at PENSTOCK_NATS_URL.",
        "security": [{"$ref": "#/components/securitySchemes/password"}],
    },
    "http": {
        "host": f"{Settings().http_host}:{Settings().http_port}",
        "protocol": "ws",
        "description": f"The gateway of notifications; the subprotocol is `{PROTOCOL}`.",
    },
}


def _channel_entries(channel: Channel) -> Iterator[tuple[str, Json]]:
    """A channel, and where its replies go: an address that the request brings."""
    described: Json = {
        "address": channel.address,
        "description": channel.description,
        "servers": [{"$ref": f"#/servers/{channel.server}"}],
        "messages": _messages(channel.messages),
    }
    if channel.parameters:
        described["parameters"] = channel.parameters
    yield channel.key, described
    if channel.reply:
        yield f"{channel.key}.reply", {"address": None, "messages": _messages(channel.reply)}


def _messages(names: Sequence[str]) -> Json:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _operations(channel: Channel) -> Iterator[tuple[str, Json]]:
    if channel.key == "notifications.socket":
        yield f"{channel.key}.receive", _operation(channel, "receive", ("request",))
        yield f"{channel.key}.send", _operation(channel, "send", ("reply",))
    for action in channel.actions:
        yield f"{channel.key}.{action}", _operation(channel, action, channel.messages)


def _operation(channel: Channel, action: str, messages: Sequence[str]) -> Json:
    operation: Json = {
        "action": action,
        "channel": {"$ref": f"#/channels/{channel.key}"},
        "messages": _in_channel(channel.key, messages),
    }
    if channel.queue:
        operation["bindings"] = {"nats": {"queue": channel.queue, "bindingVersion": _BINDING}}
    if channel.reply:
        key = f"{channel.key}.reply"
        operation["reply"] = {
            "channel": {"$ref": f"#/channels/{key}"},
            "messages": _in_channel(key, channel.reply),
        }
    if channel.reply_to:
        operation["reply"]["address"] = {"location": channel.reply_to}
    return operation


def _in_channel(key: str, messages: Sequence[str]) -> list[Json]:
    return [{"$ref": f"#/channels/{key}/messages/{name}"} for name in messages]
