"""Several nats-servers on this machine as one cluster, to be killed, frozen and cut off at will.

For tests and trials. Never restarts a server by itself: that is what is to be tried.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from penstock.infra.data_directory import create_private_directory
from penstock.infra.nats_server.binary import find_binary
from penstock.infra.nats_server.configuration import (
    HOST,
    Durability,
    Files,
    Identity,
    forget_last_run,
    write_configuration,
)
from penstock.infra.nats_server.links import Link
from penstock.infra.nats_server.process import ServerProcess

GRACE = 5.0  # seconds between SIGTERM and SIGKILL
READY = 30.0  # seconds until a server listens


class Node:
    """One server of a cluster, on the ports that it keeps. `routes` are ports of the others."""

    def __init__(
        self,
        name: str,
        directory: Path,
        identity: Identity,
        *,
        port: int,
        cluster: dict[str, Any],
        durability: Durability,
    ) -> None:
        self.name = name
        self.pid = 0
        self.url = identity.url(port)
        self._files = Files(directory)
        self._identity = identity
        self._port = port
        self._cluster = cluster
        self._durability = durability
        self._process: ServerProcess | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started and not killed since; it may be frozen."""
        return self._process is not None

    async def start(self) -> None:
        """Start it on what it stored before; return once it listens. Raises StartupError."""
        create_private_directory(self._files.directory)
        forget_last_run(self._files)
        write_configuration(
            self._files,
            self._identity,
            port=self._port,
            durability=self._durability,
            server_name=self.name,
            cluster=self._cluster,
        )
        self._process = ServerProcess(find_binary(), self._files, GRACE)
        async with asyncio.timeout(READY):
            self.pid = (await self._process.listening()).pid

    async def kill(self) -> None:
        """SIGKILL; return when it is gone."""
        process, self._process = self._process, None
        assert process is not None
        os.kill(self.pid, signal.SIGKILL)
        await process.wait()

    def freeze(self) -> None:
        """SIGSTOP: it falls silent, and no connection ends."""
        os.kill(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    async def stop(self) -> None:
        """End it, if it runs."""
        process, self._process = self._process, None
        if process is not None:
            self.thaw()
            await process.stop()


class Cluster:
    """Its `nodes`, and the `links` between them by name: from one, to another."""

    def __init__(self, nodes: dict[str, Node], links: dict[tuple[str, str], Link]) -> None:
        self.nodes = nodes
        self.links = links

    @property
    def url(self) -> str:
        """Where clients find all of them."""
        return ",".join(node.url for node in self.nodes.values())

    def cut_off(self, name: str) -> None:
        """Let one node and the others hear nothing of each other; clients still reach it."""
        for ends, link in self.links.items():
            if name in ends:
                link.cut()

    def join_again(self, name: str) -> None:
        """The opposite of `cut_off`."""
        for ends, link in self.links.items():
            if name in ends:
                link.mend()


@asynccontextmanager
async def running_cluster(
    directory: Path, *, size: int = 3, durability: Durability = "os", cuttable: bool = False
) -> AsyncIterator[Cluster]:
    """Servers that know of each other; they may yet have to elect who leads.

    `cuttable` sends what they tell each other through this process, which is slower. Raises
    StartupError.
    """
    names = [f"n{number}" for number in range(1, size + 1)]
    identity = Identity(user="penstock", password=secrets.token_urlsafe(32))
    async with AsyncExitStack() as stack:
        client, cluster, nowhere = _ports(stack, names), _ports(stack, names), _port(stack)
        links: dict[tuple[str, str], Link] = {}
        for pair in [(a, b) for a in names for b in names if a != b] if cuttable else ():
            links[pair] = Link(cluster[pair[1]])
            await links[pair].start()
            stack.push_async_callback(links[pair].stop)
        nodes = {}
        for name in names:
            others = [n for n in names if n != name]
            routes = [links[name, n].entrance if cuttable else cluster[n] for n in others]
            settings = _cluster_settings(identity, cluster[name], routes)
            if cuttable:  # servers tell each other where others are: not past the links
                settings["advertise"] = f"{HOST}:{nowhere}"
            nodes[name] = Node(
                name,
                directory / name,
                identity,
                port=client[name],
                cluster=settings,
                durability=durability,
            )
            stack.push_async_callback(nodes[name].stop)
        await asyncio.gather(*(node.start() for node in nodes.values()))
        yield Cluster(nodes, links)


def _cluster_settings(identity: Identity, port: int, routes: list[int]) -> dict[str, Any]:
    who = {"user": identity.user, "password": identity.password}
    return {
        "name": "penstock",
        "host": HOST,
        "port": port,
        "authorization": who,
        "routes": [identity.url(route) for route in routes],
    }


def _ports(stack: ExitStack | AsyncExitStack, names: list[str]) -> dict[str, int]:
    return {name: _port(stack) for name in names}


def _port(stack: ExitStack | AsyncExitStack) -> int:
    """A port that is ours until the end, and on which a server may listen nevertheless.

    nats-server shares addresses as this socket does, which never listens.
    """
    reserving = stack.enter_context(socket.socket())
    reserving.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserving.bind((HOST, 0))
    port: int = reserving.getsockname()[1]
    return port
