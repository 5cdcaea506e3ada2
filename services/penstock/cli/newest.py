"""A session that is answered as of now: one command of a person, or a script, follows the other.

Each is a process of its own, and knows nothing of what the one before wrote.
"""

from __future__ import annotations

import sys
from typing import TypeVar

from msgspec.structs import replace

from penstock.client.session import Session
from penstock.contracts.answers import Answer, Question
from penstock.contracts.errors import Timeout

T = TypeVar("T")


class NewestSession(Session):
    """Where the view is too far behind it is answered as that stands, and says so."""

    async def ask(
        self, service: str, name: str, question: Question, returns: type[T]
    ) -> tuple[T, Answer]:
        """See Session.ask."""
        try:
            return await super().ask(service, name, replace(question, newest=True), returns)
        except Timeout as error:
            if "sequence" not in error.fields:  # nobody answered
                raise
        found, answer = await super().ask(service, name, question, returns)
        print(f"penstock: {service} is behind, as of event {answer.sequence}", file=sys.stderr)
        return found, answer
