"""Versions of a message: old bytes are read as the newest Struct, and only that is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.contracts.envelope import Envelope, decode, encode, unwrap, wrap
from penstock.contracts.errors import InvalidMessage
from penstock.contracts.registry import MESSAGES, Registry

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
FILLING = Registry()


class Message(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    pass


@FILLING.event("tank", "filled", version=1)
class FilledV1(Message, frozen=True, kw_only=True):
    litres: int


@FILLING.event("tank", "filled", version=2)
class FilledV2(Message, frozen=True, kw_only=True):
    millilitres: int


@FILLING.event("tank", "filled", version=3)
class Filled(Message, frozen=True, kw_only=True):
    millilitres: int
    liquid: str


@FILLING.command("tank", "fill", version=1)
class FillV1(Message, frozen=True, kw_only=True):
    litres: int


@FILLING.command("tank", "fill", version=2)
class Fill(Message, frozen=True, kw_only=True):
    millilitres: int


@FILLING.event("tank", "emptied")
class Emptied(Message, frozen=True, kw_only=True):
    pass


@FILLING.upcast(FilledV1)
def filled_v2(old: FilledV1) -> FilledV2:
    return FilledV2(millilitres=1000 * old.litres)


@FILLING.upcast(FilledV2)
def filled_v3(old: FilledV2) -> Filled:
    return Filled(millilitres=old.millilitres, liquid="water")


@FILLING.upcast(FillV1)
def fill_v2(old: FillV1) -> Fill:
    return Fill(millilitres=1000 * old.litres)


def stored(type: str, data: object) -> Envelope:
    """A message as a process of any version wrote it."""
    body = {
        "specversion": "1.0",
        "id": "m-1",
        "source": "/penstock/tank",
        "type": type,
        "subject": "a",
        "time": NOW,
        "correlationid": "flow-1",
        "data": data,
    }
    return decode(msgspec.json.encode(body))


def written(data: msgspec.Struct, registry: Registry = FILLING) -> Envelope:
    return wrap(data, id="m-1", subject="a", time=NOW, correlationid="flow-1", registry=registry)


def test_an_old_event_is_read_as_the_newest_through_every_version_between() -> None:
    newest = Filled(millilitres=3000, liquid="water")
    assert unwrap(stored("penstock.tank.filled.v1", {"litres": 3}), FILLING) == newest
    assert unwrap(stored("penstock.tank.filled.v2", {"millilitres": 3000}), FILLING) == newest
    assert unwrap(written(newest), FILLING) == newest


def test_an_old_command_is_read_as_the_newest_and_accepted_by_its_type() -> None:
    assert unwrap(stored("penstock.tank.fill.v1", {"litres": 3}), FILLING) == Fill(millilitres=3000)
    known = FILLING.messages("tank", "command")
    assert list(known) == ["penstock.tank.fill.v1", "penstock.tank.fill.v2"]
    assert [struct.__name__ for struct in known.values()] == ["FillV1", "Fill"]
    assert FILLING.newest("tank", "command") == {"fill": Fill}


def test_only_the_newest_version_is_written() -> None:
    assert written(Filled(millilitres=1, liquid="oil")).type == "penstock.tank.filled.v3"
    for old in (FilledV1(litres=1), FilledV2(millilitres=1)):
        with pytest.raises(TypeError, match=r"old form that is only read; write Filled, .* v3"):
            written(old)
    with pytest.raises(TypeError, match="Message is not declared"):
        written(Message())


@pytest.mark.parametrize("kind", ["filled", "fill"])
def test_a_version_newer_than_the_process_says_to_upgrade(kind: str) -> None:
    known = {"filled": 3, "fill": 2}[kind]
    with pytest.raises(InvalidMessage, match=rf"knows up to v{known}: upgrade it") as refused:
        unwrap(stored(f"penstock.tank.{kind}.v99", {}), FILLING)
    assert refused.value.fields["path"] == "$.type"


@pytest.mark.parametrize("type", ["penstock.tank.filled.v0", "penstock.tank.filled", "", "v1"])
def test_a_type_that_is_no_newer_version_is_merely_unknown(type: str) -> None:
    with pytest.raises(InvalidMessage, match="Nothing here knows"):
        unwrap(stored(type, {}), FILLING)


def test_old_data_are_held_to_the_form_of_their_own_version() -> None:
    with pytest.raises(InvalidMessage, match=r"filled\.v1 .*\$\.data\.litres"):
        unwrap(stored("penstock.tank.filled.v1", {"millilitres": 3}), FILLING)


# -- the same state -------------------------------------------------------------------------------


def folded(events: Sequence[Envelope]) -> dict[str, int]:
    """A state as a service's `evolve` makes it, which knows the newest events alone."""
    state: dict[str, int] = {}
    for event in events:
        match unwrap(event, FILLING):
            case Filled(millilitres=more, liquid=liquid):
                state = {**state, liquid: state.get(liquid, 0) + more}
            case Emptied():
                state = {}
            case other:
                raise AssertionError(other)
    return state


def forms(litres: int) -> list[Envelope]:
    """One filling, as each version would have stored it."""
    return [
        stored("penstock.tank.filled.v1", {"litres": litres}),
        stored("penstock.tank.filled.v2", {"millilitres": 1000 * litres}),
        stored("penstock.tank.filled.v3", {"millilitres": 1000 * litres, "liquid": "water"}),
    ]


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(0, 9)), st.integers(0, 2))))
def test_a_log_of_any_versions_folds_to_the_state_of_the_newest_alone(
    steps: list[tuple[int | None, int]],
) -> None:
    def log(form: int | None = None) -> list[Envelope]:
        empty = written(Emptied())
        return [
            empty if litres is None else forms(litres)[its_form if form is None else form]
            for litres, its_form in steps
        ]

    newest = folded(log(2))
    assert folded(log()) == folded(log(0)) == folded(log(1)) == newest
    assert folded([decode(encode(event)) for event in log()]) == newest


# -- declarations that do not fit -----------------------------------------------------------------


def declared(*versions: int, upcasters: Sequence[int] = ()) -> Registry:
    """A registry with versions of one event, and upcasters from some of them."""
    registry = Registry()
    structs = {v: msgspec.defstruct(f"ThingV{v}", [], frozen=True) for v in versions}
    for version, made in structs.items():
        registry.event("test", "thing", version=version)(made)
    for version in upcasters:
        registry.upcast(structs[version])(constantly(structs.get(version + 1, Message)))
    return registry


def constantly(struct: type[msgspec.Struct]) -> Callable[[msgspec.Struct], msgspec.Struct]:
    return lambda _: struct()


@pytest.mark.parametrize(
    ("versions", "upcasters", "why"),
    [
        ((2,), (), r"thing\.v2 is declared and penstock\.test\.thing\.v1 is not"),
        ((1, 3), (1,), r"thing\.v3 is declared and penstock\.test\.thing\.v2 is not"),
        ((1, 2), (), r"thing\.v1 has no upcaster to v2: write @upcast\(ThingV1\)"),
        ((1, 2, 3), (1,), r"thing\.v2 has no upcaster to v3"),
        ((1, 2), (1, 2), r"thing\.v2 has an upcaster and no newer version"),
    ],
)
def test_a_gap_in_the_chain_is_found_before_any_message_comes(
    versions: tuple[int, ...], upcasters: tuple[int, ...], why: str
) -> None:
    registry = declared(*versions, upcasters=upcasters)
    with pytest.raises(ValueError, match=why):
        registry.check()
    with pytest.raises(ValueError, match=why):
        registry.messages("test", "event")  # what a service asks for at its start


def test_the_order_of_declarations_does_not_matter() -> None:
    registry = declared(3, 1, 2, upcasters=(2, 1))
    registry.check()
    assert [type(unwrap(stored(f"penstock.test.thing.v{v}", {}), registry)).__name__
            for v in (1, 2, 3)] == ["ThingV3"] * 3  # fmt: skip


def test_what_is_declared_twice_is_refused_at_once() -> None:
    registry = declared(1, 2, upcasters=(1,))
    one, two = registry.messages("test", "event").values()
    with pytest.raises(ValueError, match=r"thing\.v1 has two upcasters"):
        registry.upcast(one)(lambda _: two())
    with pytest.raises(ValueError, match=r"thing\.v2 is declared twice"):
        registry.event("test", "thing", version=2)(two)
    with pytest.raises(ValueError, match="both a command and an event"):
        registry.command("test", "thing", version=3)(msgspec.defstruct("Other", []))
    with pytest.raises(ValueError, match="Message is not declared"):
        registry.upcast(Message)(lambda old: old)


def test_an_upcaster_that_leads_elsewhere_is_told() -> None:
    registry = declared(1, 2)
    one, _ = registry._types
    registry.upcast(one)(lambda old: old)
    with pytest.raises(TypeError, match="The upcaster to ThingV2 returned ThingV1"):
        unwrap(stored("penstock.test.thing.v1", {}), registry)


def test_every_message_of_the_contracts_has_its_way_to_the_newest() -> None:
    MESSAGES.check()
