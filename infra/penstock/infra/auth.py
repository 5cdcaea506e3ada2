"""Access tokens: who a caller from outside is, signed and short-lived. Never keeps one.

JSON Web Tokens (https://www.rfc-editor.org/rfc/rfc7519) with HS256, whose key every instance of a
service shares.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import jwt
import msgspec

from penstock.contracts.errors import StartupError, Unauthorized

ALGORITHM = "HS256"
SHORTEST_SECRET = 32  # bytes; RFC 7518 section 3.2


class TokenExpired(Unauthorized):
    """The token was good and its time is over; a new one will do."""

    code, title, status = "token-expired", "Token expired", 401


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What a token proves: who its bearer is, and until when."""

    user: str
    expires: datetime


class Tokens:
    """Issues and checks the tokens of one audience.

    Raises StartupError if `secret` has fewer than 32 bytes.
    """

    def __init__(self, secret: str, audience: str) -> None:
        if len(secret.encode()) < SHORTEST_SECRET:
            raise StartupError(
                f"PENSTOCK_SECRET has fewer than {SHORTEST_SECRET} bytes; make one with "
                "`openssl rand -hex 32`, or leave it out and one is made."
            )
        self._secret = secret
        self._audience = audience

    def issue(self, user: str, lifetime: timedelta, *, now: datetime) -> tuple[str, Identity]:
        """A token for `user`, and what it proves. Its times are whole seconds."""
        issued = now.replace(microsecond=0)
        identity = Identity(user=user, expires=issued + lifetime)
        claims = {"sub": user, "aud": self._audience, "iat": issued, "exp": identity.expires}
        return jwt.encode(claims, self._secret, algorithm=ALGORITHM), identity

    def check(self, token: str) -> Identity:
        """What `token` proves. Raises TokenExpired, or Unauthorized for any other fault."""
        try:
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[ALGORITHM],
                audience=self._audience,
                options={"require": ["sub", "aud", "exp"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise TokenExpired("The access token has expired; ask for a new one.") from error
        except jwt.InvalidAudienceError as error:
            raise Unauthorized(
                f"The access token is not for {self._audience}; ask that service for one."
            ) from error
        except jwt.InvalidTokenError as error:
            raise Unauthorized(
                f"The access token is not valid ({type(error).__name__}); ask for a new one."
            ) from error
        return Identity(user=claims["sub"], expires=datetime.fromtimestamp(claims["exp"], UTC))
