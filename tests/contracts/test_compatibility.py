"""What a message may become within its version, and what the check says of the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, defstruct

from artefacts.__main__ import problems
from artefacts.committed import PLACE, on_disk, replace
from artefacts.compatibility import breaks, breaks_of_answers
from artefacts.message_schemas import message_schema
from penstock.contracts.registry import Kind, MessageType
from penstock.infra.json_schema import json_schemas

ROOT = Path(__file__).parent.parent.parent
FILES = on_disk(ROOT / PLACE)
Fields = list[Any]
BASE: Fields = [("a", str), ("b", int, 5), ("c", str | None, None)]


class Inner(msgspec.Struct, frozen=True):
    x: int = 1


class InnerLess(msgspec.Struct, frozen=True):
    pass


class InnerMore(msgspec.Struct, frozen=True):
    x: int = 1
    y: int | None = None


class Nested(msgspec.Struct, frozen=True):
    """Holds itself."""

    deeper: list[Nested] = []
    x: int = 1


class NestedLess(msgspec.Struct, frozen=True):
    """Holds itself."""

    deeper: list[NestedLess] = []


def schemas(fields: Fields, *, kind: Kind = "event", version: int = 1) -> dict[str, Any]:
    """A contract of one message with these fields."""
    message_type = MessageType(kind, "test", "thing", version)
    struct = defstruct("Thing", fields, kw_only=True)
    return {str(message_type): message_schema(message_type, struct)}


def said(old: Fields, new: Fields, kind: Kind = "event") -> list[str]:
    """What is said of a message whose fields change so, without what to do about it."""
    found = breaks(schemas(old, kind=kind), schemas(new, kind=kind))
    for sentence in found:
        assert sentence.startswith("penstock.test.thing.v1: ")
        assert (
            "declare the new form as penstock.test.thing.v2, with an upcaster from v1" in sentence
        )
    return [sentence.split(": ")[1] for sentence in found]


def either(one: Any, other: Any) -> tuple[Fields, Fields]:
    return [("f", one)], [("f", other)]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (BASE, BASE[1:], "`data.a` was removed"),
        (BASE, BASE[:2], "`data.c` was removed"),
        (BASE, [*BASE, ("d", int)], "`data.d` is new and has no default"),
        (
            BASE,
            [("a", int), *BASE[1:]],
            "the type of `data.a` changed from string to integer",
        ),
        (
            BASE,
            [BASE[0], ("b", int), BASE[2]],
            "`data.b` has no default any more, and stored messages may leave it out",
        ),
        (
            BASE,
            [BASE[0], ("b", int, 6), BASE[2]],
            "the default of `data.b` changed from 5 to 6, and with it the meaning of stored "
            "messages that leave it out",
        ),
        (*either(int, float), "the type of `data.f` changed from integer to number"),
        (*either(str | None, str), "the type of `data.f` changed from null or string to string"),
        (*either(Any, str), "the type of `data.f` changed from any to string"),
        (*either(list[str], list[int]), "the type of `data.f[]` changed from string to integer"),
        (
            *either(dict[str, int], dict[str, str]),
            "the type of `data.f[]` changed from integer to string",
        ),
        (
            *either(dict[str, Any], dict[str, str]),
            "the type of `data.f[]` changed from any to string",
        ),
        (
            *either(tuple[int, int], tuple[int, str]),
            "the type of `data.f[1]` changed from integer to string",
        ),
        (*either(Inner, InnerLess), "`data.f.x` was removed"),
        (*either(Inner | None, InnerLess | None), "`data.f.x` was removed"),
        (*either(Nested, NestedLess), "`data.f.x` was removed"),
        (*either(Literal["p", "q"], Literal["p"]), '`data.f` cannot be "q" any more'),
        (*either(str, Literal["p"]), '`data.f` can only be "p" now'),
        (
            *either(str, Annotated[str, Meta(max_length=9)]),
            "maxLength of `data.f` changed from none to 9",
        ),
        (
            *either(Annotated[int, Meta(ge=0)], Annotated[int, Meta(ge=1)]),
            "minimum of `data.f` changed from 0 to 1",
        ),
        (
            *either(Annotated[str, Meta(pattern="a")], Annotated[str, Meta(pattern="b")]),
            'pattern of `data.f` changed from "a" to "b"',
        ),
    ],
)
def test_what_stored_messages_may_have_stays(old: Fields, new: Fields, what: str) -> None:
    assert said(old, new) == said(old, new, "command") == [what]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        (*either(str, str | None), "the type of `data.f` changed from string to null or string"),
        (*either(Literal["p"], Literal["p", "q"]), '`data.f` can also be "q"'),
        (
            *either(Annotated[int, Meta(le=9)], Annotated[int, Meta(le=99)]),
            "maximum of `data.f` changed from 9 to 99",
        ),
        (
            *either(Annotated[int, Meta(le=9)], int),
            "maximum of `data.f` changed from 9 to none",
        ),
        (BASE, [("a", str, ""), *BASE[1:]], "`data.a` may be left out now"),
    ],
)
def test_only_what_a_service_alone_reads_may_become_wider(
    old: Fields, new: Fields, what: str
) -> None:
    assert said(old, new) == [f"{what}, and older readers refuse that"]
    assert said(old, new, "command") == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (BASE, BASE),
        (BASE, [*BASE, ("d", int, 0)]),
        (BASE, [*BASE, ("d", Inner, Inner())]),
        (BASE, BASE[::-1]),
        either(Inner, InnerMore),
        either(list[Nested], list[Nested]),
    ],
)
def test_a_field_that_can_be_left_out_may_come(old: Fields, new: Fields) -> None:
    assert said(old, new) == said(old, new, "command") == []


def test_words_may_change_and_messages_may_come() -> None:
    old = schemas(BASE)
    [schema] = schemas(BASE).values()
    schema["description"] = schema["$defs"]["Thing"]["description"] = "Said better."
    new = {"penstock.test.thing.v1": schema, **schemas([("z", int)], version=2)}
    assert breaks(old, new) == []


def test_a_type_or_version_that_was_there_stays_for_what_is_stored() -> None:
    [gone] = breaks(schemas(BASE), schemas(BASE, version=2))
    assert gone.startswith("penstock.test.thing.v1 is not declared any more")
    assert "declare it again" in gone
    [turned] = breaks(schemas(BASE), schemas(BASE, kind="command"))
    assert "its kind changed from event to command" in turned


def test_an_old_version_is_put_back_and_the_next_free_number_is_named() -> None:
    def two(first: Fields, second: Fields) -> dict[str, Any]:
        return {**schemas(first), **schemas(second, version=2)}

    [old] = breaks(two(BASE, BASE), two(BASE[1:], BASE))
    assert old == (
        "penstock.test.thing.v1: `data.a` was removed: put penstock.test.thing.v1 back as it was, "
        "what is stored of it has that form."
    )
    [newest] = breaks(two(BASE, BASE), two(BASE, BASE[1:]))
    assert "as penstock.test.thing.v3, with an upcaster from v2" in newest


# -- questions and answers ------------------------------------------------------------------------


def asyncapi(name: str, fields: Fields) -> dict[str, Any]:
    """An AsyncAPI document with the message `name`, of these fields."""
    struct = defstruct("Thing", fields, kw_only=True)
    [schema], components = json_schemas([struct], "#/components/schemas/{name}")
    return {"components": {"messages": {name: {"payload": schema}}, "schemas": components}}


def said_of(name: str, old: Fields, new: Fields) -> list[str]:
    found = breaks_of_answers(asyncapi(name, old), asyncapi(name, new))
    ends = [sentence.endswith(": put it back; a new form goes beside it.") for sentence in found]
    assert all(ends)
    return [sentence.split(": ")[1] for sentence in found]


STATE = Literal["pending", "done"]
MORE = Literal["pending", "done", "archived"]


@pytest.mark.parametrize("name", ["jobs.get.answer", "jobs.enqueue.outcome"])
def test_an_answer_keeps_what_its_readers_rely_on(name: str) -> None:
    assert said_of(name, BASE, BASE[1:]) == ["`a` was removed"]
    changed = "the type of `f` changed from string to integer"
    assert said_of(name, *either(str, int)) == [changed]
    assert len(said_of(name, *either(str, str | None))) == 1
    assert said_of(name, [("a", str)], [("a", str, "")]) == [
        "`a` may be left out now, and older readers refuse that"
    ]
    assert said_of(name, BASE, [*BASE, ("d", int)]) == []
    assert said_of(name, *either(str | None, str)) == []
    assert said_of(name, *either(STATE, MORE)) == []


def test_a_question_may_still_be_asked_as_it_was() -> None:
    name = "jobs.list.question"
    assert said_of(name, BASE, BASE[:1]) == ["`b` was removed", "`c` was removed"]
    assert said_of(name, BASE, [*BASE, ("d", int)]) == ["`d` is new and has no default"]
    assert said_of(name, *either(MORE, STATE)) == ['`f` cannot be "archived" any more']
    assert said_of(name, *either(STATE, MORE | None)) == []
    [gone] = breaks_of_answers(asyncapi(name, BASE), asyncapi("jobs.all.question", BASE))
    assert gone == "jobs.list.question is gone, and somebody may rely on it: put it back."


# -- against commits ------------------------------------------------------------------------------

ASYNCAPI = "asyncapi.yaml"
CREATED = "messages/penstock.progress.created.v1.json"


def git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@localhost", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", root, *identity, *arguments], check=True, capture_output=True)


def commit(root: Path, files: dict[str, str]) -> None:
    replace(root / PLACE, files)
    git(root, "add", "-A")
    git(root, "commit", "--allow-empty", "-m", "a change")


def with_one_field_more() -> dict[str, str]:
    """The artefacts of a time when an event and a state had a field that they have no longer."""
    schema = msgspec.json.decode(FILES[CREATED])
    schema["$defs"]["ProgressCreated"]["properties"]["colour"] = {"type": "string"}
    states = "    ProgressState:\n      title: ProgressState\n"
    head, properties, tail = FILES[ASYNCAPI].partition(states)[2].partition("properties:\n")
    more = f"{states}{head}{properties}        colour:\n          type: string\n{tail}"
    asyncapi = FILES[ASYNCAPI].partition(states)[0] + more
    return {**FILES, CREATED: msgspec.json.encode(schema).decode(), ASYNCAPI: asyncapi}


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    return tmp_path


LOST = "penstock.progress.created.v1: `data.colour` was removed"


def test_before_a_commit_the_last_one_counts(repository: Path) -> None:
    commit(repository, with_one_field_more())
    replace(repository / PLACE, FILES)
    problem, *others = problems(repository, FILES)
    assert LOST in problem
    assert "penstock.progress.created.v2" in problem
    assert any("progress.get.answer: `data.colour` was removed" in other for other in others)


def test_in_a_clean_clone_the_commit_before_counts_unless_it_is_shallow(
    repository: Path, tmp_path: Path
) -> None:
    commit(repository, with_one_field_more())
    commit(repository, FILES)
    assert LOST in problems(repository, FILES)[0]
    git(repository, "clone", "--depth", "1", f"file://{repository}", str(tmp_path / "shallow"))
    assert problems(tmp_path / "shallow", FILES) == []
    commit(repository, FILES)
    assert problems(repository, FILES) == []


def test_without_git_or_artefacts_before_there_is_nothing_to_compare_with(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("no-repository")
    replace(elsewhere / PLACE, FILES)
    assert problems(elsewhere, FILES) == []
    commit(repository, {})
    commit(repository, FILES)
    assert problems(repository, FILES) == []


def schemas_command(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "artefacts", "--root", root, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tools")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_the_command_writes_what_the_check_asks_for(repository: Path) -> None:
    shutil.copytree(ROOT / PLACE, repository / PLACE)
    (repository / PLACE / CREATED).unlink()
    (repository / PLACE / "messages/penstock.old.thing.v1.json").write_text("{}")
    failed = schemas_command(repository, "--check")
    assert failed.returncode == 1
    assert failed.stderr == (
        f"tools/schemas: {PLACE}/messages/penstock.old.thing.v1.json and 1 more is not what the "
        "code gives: run tools/schemas and commit the result.\n"
    )
    assert schemas_command(repository).returncode == 0
    assert on_disk(repository / PLACE) == FILES
    assert schemas_command(repository, "--check", "--base", str(ROOT / PLACE)).stderr == ""


def test_the_command_refuses_a_base_that_is_none(repository: Path) -> None:
    result = schemas_command(repository, "--check", "--base", "nowhere")
    assert result.returncode == 1
    assert "'nowhere' is neither a commit nor a directory" in result.stderr
