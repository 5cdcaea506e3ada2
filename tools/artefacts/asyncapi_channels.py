"""The channels and operations of the AsyncAPI document: who sends what where. Never any schema.

Told from where Penstock stands: it receives commands and sends events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from artefacts.addresses import Address, addresses
from penstock.contracts import changes, jobs, push
from penstock.contracts.registry import MESSAGES
from penstock.contracts.subjects import REPLY
from penstock.infra.service import Service

Json = dict[str, Any]
# What is declared as an event and never stored among them.
_ON_ITS_WAY: dict[type[msgspec.Struct], str] = {
    jobs.JobReady: "work",
    jobs.JobDue: "due",
    changes.EntityChanged: "change",
}
_KEYS = {"change": "changes", "timer": "timers.set", "due": "timers.due"}
_ACTIONS = {"change": ("receive",), "due": ("send", "receive"), "live": ()}


class Channel(msgspec.Struct, frozen=True, kw_only=True):
    """One channel, and what Penstock does on it. `reply` are the messages that come back."""

    key: str
    address: str
    description: str
    parameters: Json = {}
    messages: tuple[str, ...] = ()
    actions: tuple[str, ...] = ("send",)
    reply: tuple[str, ...] = ()
    reply_to: str | None = None
    queue: str | None = None
    server: str = "nats"


def channels(services: Sequence[Service[Any]]) -> list[Channel]:
    """Every subject of the bus, and the WebSocket."""
    found = [c for address in addresses() for c in _channels(address, services)]
    return sorted([*found, _socket()], key=lambda channel: channel.key)


def _channels(address: Address, services: Sequence[Service[Any]]) -> Iterator[Channel]:
    match address.method:
        case "event":
            yield from (_events(address, service.name) for service in services)
        case "command":
            yield from (c for service in services for c in _commands(address, service.name))
        case "query":
            yield from (c for service in services for c in _queries(address, service))
        case "control":
            yield _any_control(address)
            yield from (c for service in services for c in _controls(address, service))
        case "dead_letter":
            yield _dead(address, "dead.consumer")
            yield _dead(address, "dead", consumer="")
        case other:
            yield Channel(
                key=_KEYS.get(other, other),
                address=address.pattern(),
                description=address.meaning,
                parameters=address.described(),
                messages=_messages_of(other),
                actions=_ACTIONS.get(other, ("send",)),
            )


def _messages_of(method: str) -> tuple[str, ...]:
    wanted = "due" if method == "timer" else method
    return tuple(str(MESSAGES.type_of(s)) for s, where in _ON_ITS_WAY.items() if where == wanted)


def _events(address: Address, service: str) -> Channel:
    stored = {
        name: struct
        for name, struct in MESSAGES.messages(service, "event").items()
        if struct not in _ON_ITS_WAY
    }
    return Channel(
        key=f"{service}.events",
        address=address.pattern(service=service),
        description=address.meaning,
        parameters=address.described(service=service),
        messages=tuple(sorted(stored)),
    )


def _commands(address: Address, service: str) -> Iterator[Channel]:
    for verb in sorted(MESSAGES.newest(service, "command")):
        versions = MESSAGES.messages(service, "command").items()
        yield Channel(
            key=f"{service}.commands.{verb}",
            address=address.pattern(service=service, verb=verb),
            description="Accepted once JetStream has stored it, also while the service is down.",
            messages=tuple(n for n, struct in versions if MESSAGES.type_of(struct).name == verb),
            actions=("receive",),
            reply=(f"{service}.{verb}.outcome",),
            reply_to=f"$message.header#/{REPLY}",
        )


def _queries(address: Address, service: Service[Any]) -> Iterator[Channel]:
    for endpoint in service.endpoints:
        name = f"{service.name}.{endpoint.name}"
        yield Channel(
            key=f"{service.name}.queries.{endpoint.name}",
            address=address.pattern(service=service.name, name=endpoint.name),
            description=endpoint.summary or address.meaning,
            messages=(f"{name}.question",),
            actions=("receive",),
            reply=(f"{name}.answer",),
            queue=f"{service.name}-queries",
        )


def _any_control(address: Address) -> Channel:
    return Channel(
        key="control",
        address=address.pattern(),
        description=f"{address.meaning} Each one reports on the request's reply subject.",
        parameters=address.described(),
        actions=(),
    )


def _controls(address: Address, service: Service[Any]) -> Iterator[Channel]:
    for verb in sorted(service.verbs):
        yield Channel(
            key=f"{service.name}.control.{verb}",
            address=address.pattern(service=service.name, verb=verb),
            description=address.meaning,
            messages=(f"{service.name}.{verb}.asked",),
            actions=("receive",),
            reply=("report",),
        )


def _dead(address: Address, key: str, **known: str) -> Channel:
    return Channel(
        key=key,
        address=address.pattern(**known),
        description=address.meaning,
        parameters=address.described(**known),
        messages=("deadLetter",),
    )


def _socket() -> Channel:
    return Channel(
        key="notifications.socket",
        address=push.PATH,
        description=f"The WebSocket protocol `{push.PROTOCOL}`: JSON text frames, of which each "
        "may hold several lines, one message a line. A reply has the id of its request.",
        messages=("request", "reply"),
        actions=(),
        server="http",
    )
