"""Messages as they go over the wire, written with as little looking at each as is safe.

What is unusual is not written here, but left to the client library. Never sends.

Protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache

Message = tuple[str, bytes, Mapping[str, str]]

_IN_SUBJECT = re.compile(r"[!-~]+").fullmatch
_IN_SUBJECTS = re.compile(r"[!-~]+(?: [!-~]+)*").fullmatch
_IN_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+").fullmatch


def frame(
    subject: str, body: bytes, headers: Mapping[str, str] | None = None, reply: str = ""
) -> bytes | None:
    """A message as it goes over the wire; None for what is unusual, and left to the library."""
    if _IN_SUBJECT(subject) is None or (reply and _IN_SUBJECT(reply) is None):
        return None
    to = f"{subject} {reply}" if reply else subject
    if headers is None:
        return b"PUB %b %d\r\n%b\r\n" % (to.encode(), len(body), body)
    lines = [f"{_header(name)}{value.strip()}\r\n" for name, value in headers.items()]
    text = "".join(lines)
    if text.count("\r") != len(lines) or text.count("\n") != len(lines) or "\0" in text:
        return None
    head = b"NATS/1.0\r\n%b\r\n" % text.encode()
    total = len(head) + len(body)
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (to.encode(), len(head), total, head, body)


def numbered(messages: Sequence[Message], id: str, first: int) -> Iterator[Message]:
    """Messages with what makes them members of a batch, their places counted from `first`."""
    for place, (subject, body, headers) in enumerate(messages, first):
        member = {"Nats-Batch-Id": id, "Nats-Batch-Sequence": str(place)}
        yield subject, body, {**headers, **member}


def batch_frames(messages: Sequence[Message], id: str, first: int) -> list[bytes] | None:
    """What `numbered` gives as it goes over the wire; None if one of them is unusual.

    Written out, since this is most of what a batch costs its sender.
    """
    heads = list[str]()
    member = f"Nats-Batch-Id: {id}\r\nNats-Batch-Sequence: "
    for place, (subject, body, own) in enumerate(_with_lines(messages), first):
        text = f"NATS/1.0\r\n{own}{member}{place}\r\n\r\n"
        size = len(text)
        heads.append(f"HPUB {subject} {size} {size + len(body)}\r\n{text}")
    lines = sum([len(headers) for _, _, headers in messages]) + 5 * len(messages)
    return _joined(messages, heads, lines)


def reply_frames(messages: Sequence[Message], replies: Sequence[str]) -> list[bytes] | None:
    """Messages that want each its own reply, as they go over the wire; None if one is unusual."""
    heads = list[str]()
    for (subject, body, own), to in zip(_with_lines(messages), replies, strict=True):
        text = f"NATS/1.0\r\n{own}\r\n"
        size = len(text)
        heads.append(f"HPUB {subject} {to} {size} {size + len(body)}\r\n{text}")
    lines = sum([len(headers) for _, _, headers in messages]) + 3 * len(messages)
    return _joined(messages, heads, lines)


def ingest_reply(reply: str, place: int, of: int) -> str:
    """What the message at a `place`, from 1 on, wants as reply in a fast ingest `of` so many."""
    begins, goes_on, ends = 0, 1, 2
    does = ends if place == of else goes_on if place > 1 else begins
    return f"{reply}.{place}.{does}.$FI"


def _with_lines(messages: Sequence[Message]) -> Iterator[tuple[str, bytes, str]]:
    """Messages with the lines of their headers."""
    known, own = None, ""
    for subject, body, headers in messages:
        if headers is not known:  # many share theirs
            known, own = headers, "".join([f"{n + ': ' + v}\r\n" for n, v in headers.items()])
        yield subject, body, own


def _joined(messages: Sequence[Message], heads: list[str], lines: int) -> list[bytes] | None:
    """Each head with its body, if all of them together have so many lines and nothing unusual.

    They are looked at together: what is unusual in one of them shows in the whole.
    """
    if not heads:
        return []
    whole, names = "\0".join(heads), " ".join([subject for subject, _, _ in messages])
    usual = whole.count("\n") == whole.count("\r") == lines and whole.isascii()
    apart = whole.count("\0") == names.count(" ") == len(heads) - 1
    if not (usual and apart and _IN_SUBJECTS(names)):
        return None
    written = whole.encode().split(b"\0")
    return [b"%b%b\r\n" % (h, body) for h, (_, body, _) in zip(written, messages, strict=True)]


@lru_cache(maxsize=256)
def _header(name: str) -> str:
    """A header's line up to its value; what cannot be a header's name spoils the line."""
    # Not by an f-string: that shows the name of a member of an enumeration, not its text.
    return name + ": " if _IN_NAME(name) else "\0"
