"""A durable consumer on the server: made where it is missing, at the place where it stood.

Never takes a message: that is for whoever is bound to it.
"""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from penstock.infra.bus import Bus, StreamError

log = logging.getLogger(__name__)

NANOSECONDS = 1_000_000_000
CONSUMER_NOT_FOUND, STREAM_NOT_FOUND = 10014, 10059
CONSUMER_EXISTS = 10148
MISSING = (CONSUMER_NOT_FOUND, STREAM_NOT_FOUND)
LOOK_TIMEOUT = 2.0  # seconds that one look may take
Config = dict[str, Any]


class Backlog(msgspec.Struct, frozen=True):
    """What a consumer has before it: `waiting` messages are not acknowledged yet.

    `settled` counts the deliveries that came to an end, in the life of this consumer.
    """

    waiting: int
    settled: int


class Durable:
    """One durable consumer of a stream, shared by all instances. `config` as the API takes it.

    A new one begins where the config says; one that was lost begins anew behind the last message
    up to which all had been acknowledged, if this process has seen it.
    """

    def __init__(self, bus: Bus, stream: str, config: Config) -> None:
        self.name: str = config["durable_name"]
        self._bus = bus
        self._stream = stream
        self._config = {"ack_policy": "explicit", "deliver_policy": "all", **config}
        self._floor = 0
        self._stream_created = ""

    async def ensure(self) -> None:
        """Make it, or bring it to its config. Raises StreamError, Unavailable or Timeout."""
        try:
            found = (await self._info())["config"]
        except StreamError as error:
            if error.err_code != CONSUMER_NOT_FOUND:
                raise
            await self._make()
        else:
            await self._correct(found)

    async def look(self) -> Backlog:
        """What it has before it now. Raises StreamError (MISSING), Unavailable or Timeout."""
        info = await self._info()
        self._floor = info["ack_floor"]["stream_seq"]
        in_hand = info["num_ack_pending"]
        return Backlog(
            waiting=info["num_pending"] + in_hand,
            settled=info["delivered"]["consumer_seq"] - in_hand,
        )

    async def _info(self) -> Any:
        verb = f"CONSUMER.INFO.{self._stream}.{self.name}"
        return await self._bus.api(verb, timeout=LOOK_TIMEOUT)

    async def _make(self) -> None:
        info = await self._bus.api(f"STREAM.INFO.{self._stream}")
        same_stream = info["created"] == self._stream_created
        self._stream_created = info["created"]
        config = self._config
        # A work queue holds only what is not acknowledged, and knows no other beginning.
        if self._floor and same_stream and info["config"]["retention"] == "limits":
            config = {
                **config,
                "deliver_policy": "by_start_sequence",
                "opt_start_seq": self._floor + 1,
            }
        try:
            await self._create(config, "create")
        except StreamError as error:
            if error.err_code != CONSUMER_EXISTS:  # another instance was quicker
                raise

    async def _correct(self, found: Config) -> None:
        if not self._stream_created:
            info = await self._bus.api(f"STREAM.INFO.{self._stream}")
            self._stream_created = info["created"]
        fixed = {"deliver_policy", "opt_start_seq"}
        wanted = {key: value for key, value in self._config.items() if key not in fixed}
        if any(found.get(key) != value for key, value in wanted.items()):
            await self._create({**found, **wanted}, "update")

    async def _create(self, config: Config, action: str) -> None:
        verb = f"CONSUMER.CREATE.{self._stream}.{self.name}.{config['filter_subject']}"
        await self._bus.api(verb, {"stream_name": self._stream, "config": config, "action": action})
