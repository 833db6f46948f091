"""Every record is read as it was written, and nothing else is read as one."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from records import Cell, decode, encode
from records.encoding import LATER, keys

finite = st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@dataclass(frozen=True)
class Inner:
    """A record inside others."""

    loss: float
    node: str


@dataclass(frozen=True)
class Outer:
    """A record of every kind of field that there is."""

    cell: Cell
    count: int
    done: bool
    inner: Inner
    config: dict[str, Any]
    many: tuple[Inner, ...]
    by_name: dict[str, Inner]
    memory: int | None = None
    kind: Literal["probe", "tuned"] = "probe"
    classes: list[int] = field(default_factory=list)
    chosen: dict[str, float] = field(default_factory=dict)


inners = st.builds(Inner, loss=finite, node=st.text())
outers = st.builds(
    Outer,
    cell=st.builds(Cell, st.integers(1, 100).map(float), st.sampled_from(["llrd", "a-b_2"])),
    count=st.integers(),
    done=st.booleans(),
    inner=inners,
    config=st.dictionaries(st.text(), json_values, max_size=3),
    many=st.lists(inners, max_size=2).map(tuple),
    by_name=st.dictionaries(st.text(), inners, max_size=2),
    memory=st.none() | st.integers(),
    kind=st.sampled_from(["probe", "tuned"]),
    classes=st.lists(st.integers(), max_size=3),
    chosen=st.dictionaries(st.text(), finite, max_size=2),
)
ONE = Outer(Cell(10, "llrd"), 3, True, Inner(0.5, "n"), {"lr": 1e-3}, (Inner(1, "a"),), {})


@settings(max_examples=60, deadline=None)
@given(outers)
def test_what_is_written_is_read(record: Outer) -> None:
    line = json.loads(json.dumps(encode(record), allow_nan=False))
    assert decode(Outer, line) == record


def test_a_record_inside_a_record_is_spread_into_it() -> None:
    assert encode(ONE) == {
        **{"cell": "10/llrd", "count": 3, "done": True, "loss": 0.5, "node": "n"},
        **{"config": {"lr": 1e-3}, "many": [{"loss": 1, "node": "a"}], "by_name": {}},
        **{"memory": None, "kind": "probe", "classes": [], "chosen": {}},
    }
    assert keys(Outer) == tuple(encode(ONE))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_null_wherever_it_is_and_read_as_nan(value: float) -> None:
    config = {"a": value, "b": [1.0, value], "c": {"d": (value, 2)}}
    line = encode(replace(ONE, inner=Inner(value, "n"), config=config))
    assert line["config"] == {"a": None, "b": [1.0, None], "c": {"d": [None, 2]}}
    assert math.isnan(decode(Outer, json.loads(json.dumps(line, allow_nan=False))).inner.loss)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("loss", "0.5", "loss: '0.5' is of the wrong type"),
        ("count", 1.5, "count: 1.5 is of the wrong type"),
        ("count", None, "count: None is of the wrong type"),
        ("done", "yes", "done: 'yes' is of the wrong type"),
        ("cell", "everything", "could not convert"),
        ("config", [], r"config: \[\] is of the wrong type"),
        ("many", [{"loss": 1}], "it has no node"),
        ("memory", "much", "memory: 'much' is of the wrong type"),
        ("kind", "frozen", "kind: 'frozen' is none of probe, tuned"),
        ("classes", [1, "2"], "classes: its items must be of type int"),
        ("extra", 1, "it has an unknown field 'extra'"),
    ],
)
def test_what_does_not_fit_is_refused(key: str, value: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        decode(Outer, encode(ONE) | {key: value})


@dataclass(frozen=True)
class Grown:
    """A record that has got fields since files were written."""

    count: int
    score: float | None = field(default=None, metadata=LATER)
    many: list[float] = field(default_factory=list, metadata=LATER)


def test_fields_that_came_later_have_their_defaults_in_files_of_before() -> None:
    assert decode(Grown, {"count": 3}) == Grown(3)
    assert decode(Grown, {"count": 3, "many": [0.5]}) == Grown(3, None, [0.5])
    assert encode(Grown(3)) == {"count": 3, "score": None, "many": []}
    with pytest.raises(ValueError, match="it has no count"):
        decode(Grown, {"score": 1.0})


@pytest.mark.parametrize("key", keys(Outer))
def test_no_field_may_be_missing(key: str) -> None:
    line = encode(ONE)
    del line[key]
    with pytest.raises(ValueError, match=f"it has no {key}"):
        decode(Outer, line)
