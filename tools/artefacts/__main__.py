"""The command line of `tools/schemas`: writes the artefacts, or checks them. Exit status 0 or 1."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from artefacts.committed import PLACE, differing, last_commits, of_commit, on_disk, replace
from artefacts.compatibility import breaks, breaks_of_answers
from artefacts.documents import asyncapi_document, documents, message_schemas

ROOT = Path(__file__).resolve().parent.parent.parent
MOST = 20  # sentences shown


def main() -> int:
    """Write, or check; every failure is a line on standard error."""
    options = _parser().parse_args()
    root: Path = options.root
    try:
        files = asyncio.run(documents())
    except ValueError as error:
        return _failed([f"The contracts do not fit together: {error}"])
    if options.check:
        return _failed(problems(root, files, options.base))
    changed = replace(root / PLACE, files)
    print(f"{len(files)} files in {PLACE}, {len(changed)} of them new, changed or removed.")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tools/schemas",
        description=f"Writes {PLACE}: JSON Schema for each message, AsyncAPI and OpenAPI.",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="write nothing; fail if what is there is not what the code gives, or if a message "
        "changed without a new version",
    )
    parser.add_argument(
        "--base",
        metavar="COMMIT|DIRECTORY",
        help="what messages are compared with (the last commit and the one before it)",
    )
    parser.add_argument("--root", type=Path, default=ROOT, help=argparse.SUPPRESS)
    return parser


def problems(root: Path, files: dict[str, str], base: str | None = None) -> list[str]:
    """What is wrong with the artefacts below `root`, where `files` is what the code gives."""
    found = []
    if changed := differing(on_disk(root / PLACE), files):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        found.append(
            f"{PLACE}/{changed[0]}{more} is not what the code gives: run tools/schemas and commit "
            "the result."
        )
    messages, answers = message_schemas(files), asyncapi_document(files)
    for commit, old in _bases(root, base):
        broken = breaks(message_schemas(old), messages)
        broken += breaks_of_answers(asyncapi_document(old), answers)
        found += (f"Since {commit}: {sentence}" for sentence in broken)
    return found


def _bases(root: Path, base: str | None) -> Iterable[tuple[str, dict[str, str]]]:
    if base is None:
        return last_commits(root)
    return _named(root, base)


def _named(root: Path, base: str) -> Iterator[tuple[str, dict[str, str]]]:
    directory = Path(base)
    files = on_disk(directory) if directory.is_dir() else of_commit(root, base)
    if not files:
        raise SystemExit(f"tools/schemas: {base!r} is neither a commit nor a directory with them.")
    yield base, files


def _failed(problems: list[str]) -> int:
    for problem in problems[:MOST]:
        print(f"tools/schemas: {problem}", file=sys.stderr)
    if len(problems) > MOST:
        print(f"tools/schemas: and {len(problems) - MOST} more.", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
