"""Who may open a socket: web origins, and how many at a time. Never reads a frame."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

from aiohttp import web

from penstock.notifications.limits import Limits


class Visitor:
    """One socket, counted as a stranger of its address until it is known as a user."""

    def __init__(self, admission: Admission, address: str) -> None:
        self._admission = admission
        self._address = address
        self._user: str | None = None
        admission.strangers[address] += 1

    def known_as(self, user: str) -> bool:
        """Count the socket as the user's; False if they have too many already."""
        if self._admission.users[user] >= self._admission.limits.per_user:
            return False
        _lower(self._admission.strangers, self._address)
        self._user = user
        self._admission.users[user] += 1
        return True

    def leave(self) -> None:
        """The socket is gone."""
        if self._user is None:
            _lower(self._admission.strangers, self._address)
        else:
            _lower(self._admission.users, self._user)
        self._admission.open -= 1


class Admission:
    """Counts the sockets of a gateway. `origins` are those of other sites that may connect."""

    def __init__(self, limits: Limits, origins: frozenset[str]) -> None:
        self.limits = limits
        self.open = 0
        self.strangers: Counter[str] = Counter()
        self.users: Counter[str] = Counter()
        self._origins = origins

    def admit(self, request: web.Request) -> Visitor:
        """Let a socket in. Raises HTTPForbidden, HTTPTooManyRequests or HTTPServiceUnavailable."""
        if not self._may_come_from(request.headers.get("Origin"), request.host):
            raise web.HTTPForbidden(reason="This origin is not in PENSTOCK_ALLOWED_ORIGINS")
        if self.open >= self.limits.connections:
            raise web.HTTPServiceUnavailable(reason="Too many sockets are open")
        address = request.remote or ""
        if self.strangers[address] >= self.limits.strangers:
            raise web.HTTPTooManyRequests(reason="Too many sockets wait to connect")
        self.open += 1
        return Visitor(self, address)

    def _may_come_from(self, origin: str | None, host: str) -> bool:
        # Browsers send it always, and let any site open a socket to any other: programs send none.
        return origin is None or origin in self._origins or urlsplit(origin).netloc == host


def origins(setting: str) -> frozenset[str]:
    """The web origins in a comma-separated setting."""
    return frozenset(part.strip().rstrip("/") for part in setting.split(",") if part.strip())


def _lower(counter: Counter[str], key: str) -> None:
    counter[key] -= 1
    if not counter[key]:
        del counter[key]
