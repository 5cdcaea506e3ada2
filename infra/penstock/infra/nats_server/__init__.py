"""Runs a nats-server of our own: its binary, configuration, process and supervision.

Nothing here knows what the streams hold.
"""

from penstock.infra.nats_server.configuration import Durability
from penstock.infra.nats_server.embedded import EmbeddedNats

__all__ = ["Durability", "EmbeddedNats"]
