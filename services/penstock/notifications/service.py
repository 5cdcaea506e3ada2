"""Wires notifications into the frame of a service."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import apsw

from penstock.contracts.notifications import SERVICE, AccessToken, FeedState, IssueToken
from penstock.infra.auth import Tokens
from penstock.infra.queries import Query
from penstock.infra.service import Frame, Service
from penstock.notifications.domain import decide, evolve
from penstock.notifications.gateway import Gateway
from penstock.notifications.limits import AUDIENCE, Limits
from penstock.notifications.views import INBOX_QUERY, InboxView


def build(frame: Frame, limits: Limits = Limits()) -> Service[FeedState]:  # noqa: B008 - frozen
    """The notifications service, yet to be started. Raises StartupError for a short secret."""
    tokens = Tokens(frame.secret, AUDIENCE)
    service = Service(
        frame,
        SERVICE,
        state=FeedState,
        decide=decide,
        evolve=evolve,
        view=InboxView(),
        queries=[INBOX_QUERY, token_query(tokens)],
    )
    gateway = Gateway(
        service,
        tokens,
        limits,
        allowed_origins=frame.settings.allowed_origins,
        drain_seconds=frame.settings.drain_seconds,
    )
    service.parts.append(gateway)
    service.routes.append(gateway.route())
    service.on_shutdown.append(gateway.drain)
    return service


def token_query(tokens: Tokens) -> Query[IssueToken]:
    """Issues tokens, to whoever has NATS credentials: they may act for any user."""

    def issue(_: apsw.Connection, params: IssueToken) -> AccessToken:
        lifetime = timedelta(seconds=params.lifetime)
        token, identity = tokens.issue(params.user, lifetime, now=datetime.now(UTC))
        return AccessToken(token=token, expires=identity.expires)

    return Query(
        name="token",
        path=None,
        params=IssueToken,
        returns=AccessToken,
        read=issue,
        summary="A short-lived access token for a user's socket",
    )
