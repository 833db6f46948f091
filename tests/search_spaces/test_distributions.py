from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler

from models.recipe import Recipe
from search_spaces import Params, Space, parse_space
from search_spaces.distributions import MANY
from search_spaces.parsing import BANKS, DISTRIBUTIONS

pytestmark = pytest.mark.filterwarnings("ignore:The distribution is specified:UserWarning")
UNIT = {"warmup", "label_smoothing"}
RATES = {"lr": (1e-6, 100.0), "head_lr": (1e-6, 100.0), "weight_decay": (1e-6, 100.0)}
BOUNDS = {
    **RATES,
    "lora_alpha": (0.01, 100.0),
    "pull_to_start": (0.0, 1000.0),
    "llrd_decay": (0.01, 1.0),
    **dict.fromkeys(UNIT, (0.0, 0.9)),
}
ALONE = {"top_k": 1, "anchor": 0.0, "gda": 1.0}  # what some solvers alone have a use for
WHOLE = {"batch_size": 512, "views": 64, "lora_rank": 64}
WORDS = {"blocks", "kinds", "head_start", "solver", "class_weights"}
BLOCKS = ["none", "11", "11-7", "all"]


def samples(space: Space, seed: int, count: int = 5) -> list[tuple[Params, optuna.Trial]]:
    study = optuna.create_study(sampler=RandomSampler(seed))
    trials = [study.ask() for _ in range(count)]
    return [(space.suggest(trial), trial) for trial in trials]


def parsed(**space: Any) -> Space:
    return parse_space(space, {})


def distribution(form: Any, name: str = "lr") -> Any:
    return parsed(**{name: form}).searched[name].distribution


# The forms


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({"uniform": [0.1, 1]}, FloatDistribution(0.1, 1)),
        ({"loguniform": [1e-5, 1e-2]}, FloatDistribution(1e-5, 1e-2, log=True)),
        ({"quniform": [0.5, 2.0, 0.5]}, FloatDistribution(0.5, 2.0, step=0.5)),
        ({"randint": [1, 5]}, IntDistribution(1, 4)),
        ({"lograndint": [1, 100]}, IntDistribution(1, 99, log=True)),
        ({"choice": [0.1, 1, "1e-3"]}, CategoricalDistribution([0.1, 1.0, 1e-3])),
    ],
)
def test_distributions_are_ray_tunes(form: Any, expected: Any) -> None:
    assert distribution(form) == expected


def test_the_upper_end_of_randint_is_excluded() -> None:
    space = parsed(batch_size={"randint": [3, 5]})
    assert space.size == 2
    assert {params["batch_size"] for params, _ in samples(space, 0, 30)} == {3, 4}
    assert space.reachable("batch_size") == (3, 4)


def test_plain_values_and_banks_are_fixed_as_the_recipe_takes_them() -> None:
    space = parsed(blocks="none", lr=1, batch_size=32.0, head_lr={"bank": [1, "1e-3"]})
    assert space.fixed == {"blocks": "none", "lr": 1.0, "batch_size": 32, "head_lr": (1.0, 1e-3)}
    assert space.searched == {}
    assert space.suggest(optuna.create_study().ask()) == space.first() == space.fixed


def test_blocks_may_be_written_as_a_number() -> None:
    assert parsed(blocks=11).fixed == {"blocks": "11"}
    space = parse_space({"blocks": {"choice": ["11-7", 11]}}, {"blocks": 11})
    assert space.first() == {"blocks": "11"}


def test_a_plain_list_is_a_bank_of_its_own() -> None:
    space = parsed(blocks="none", head_lr=[1e-3], weight_decay=[0, 1e-2])
    assert space.fixed == {"blocks": "none", "head_lr": (1e-3,), "weight_decay": (0.0, 1e-2)}


# Sampling


@st.composite
def forms(draw: st.DrawFn, name: str, frozen: bool) -> Any:
    """Any way to write a parameter of a method that trains no blocks, or some."""
    if name in ALONE:
        return ALONE[name]
    if name == "solver":
        both = {"choice": ["adamw", "lbfgs"]}
        return draw(st.sampled_from(["adamw", both] if frozen else ["adamw"]))
    if name == "blocks":
        values: Any = st.sampled_from(BLOCKS[1:])
    elif name == "kinds":
        values = st.sampled_from(["ln", "attn+mlp", "ln+attn+mlp"])
    elif name == "head_start":
        values = st.sampled_from(["probe", "zero_shot", "zeros"])
    elif name == "class_weights":
        values = st.sampled_from(["none", "balanced"])
    elif name in WHOLE:
        values = st.integers(1, WHOLE[name])
    else:
        values = st.floats(*BOUNDS[name])
    kind = draw(st.sampled_from(["plain", *DISTRIBUTIONS]))
    if kind == "plain":
        return draw(values)
    if kind == "choice" or name in WORDS:
        return {"choice": draw(st.lists(values, min_size=1, max_size=4, unique=True))}
    if kind == "bank":
        return {"bank": [draw(values)]} if name in BANKS else draw(values)
    if name in WHOLE:
        low, high = sorted(draw(st.lists(values, min_size=2, max_size=2, unique=True)))
        form = draw(st.sampled_from(["randint", "lograndint", "quniform"]))
        return {form: [low, high, draw(st.integers(1, high - low))][: 3 if form[0] == "q" else 2]}
    if kind in ("randint", "lograndint"):
        kind = {"randint": "uniform", "lograndint": "loguniform"}[kind]
    low, high = sorted(draw(st.lists(values, min_size=2, max_size=2, unique=True)))
    low = max(low, 1e-6) if kind == "loguniform" else low
    if kind == "quniform":
        low, high = max(round(low, 2), 0.01), round(high, 2)
        return {kind: [low, high, 0.01]} if high - low > 0.02 else high or 0.01
    return {kind: [low, high]} if low < high else low


@st.composite
def spaces(draw: st.DrawFn) -> dict[str, Any]:
    """Some parameters in some order, each perhaps conditional on one above it."""
    names = draw(st.lists(st.sampled_from(list(Recipe.model_fields)), unique=True, min_size=1))
    space: dict[str, Any] = {}
    for name in names:
        form = draw(forms(name, "blocks" not in names))
        searched = isinstance(form, dict) and "bank" not in form
        if searched and "blocks" in space and draw(st.booleans()):
            default = Recipe.model_fields[name].default
            otherwise = default[0] if isinstance(default, tuple) else default
            when = {"blocks": draw(st.lists(st.sampled_from(BLOCKS), max_size=2))}
            form = {**form, "when": when, "otherwise": otherwise}
        space[name] = form
    return space


@settings(max_examples=100, deadline=None)
@given(spaces(), st.integers(0, 2**31 - 1))
def test_whatever_is_sampled_is_a_recipe(written: dict[str, Any], seed: int) -> None:
    space = parse_space(written, {})
    for params, trial in samples(space, seed):
        Recipe(**params)
        assert params.keys() == written.keys()
        # What was sampled is what `distributions` says was.
        assert trial.params == {name: params[name] for name in space.distributions(params)}
        assert trial.distributions == space.distributions(params)
    Recipe(**space.first())


@settings(max_examples=60, deadline=None)
@given(spaces())
def test_what_is_tried_first_lies_in_the_space(written: dict[str, Any]) -> None:
    space = parse_space(written, {})
    first = space.first()
    study = optuna.create_study()
    study.enqueue_trial({name: first[name] for name in space.distributions(first)})
    assert space.suggest(study.ask()) == first


@settings(max_examples=60, deadline=None)
@given(spaces())
def test_fixed_configurations_are_spaces(written: dict[str, Any]) -> None:
    first = parse_space(written, {}).first()
    assert parse_space(first, {}).first() == first


# Defaults and conditions


@pytest.mark.parametrize(
    ("form", "middle"),
    [
        ({"uniform": [0.2, 0.8]}, 0.5),
        ({"loguniform": [1e-4, 1e-2]}, 1e-3),
        ({"quniform": [0.0, 0.9, 0.3]}, 0.6),
        ({"choice": [0.7, 0.1]}, 0.7),
        ({"randint": [1, 10]}, 5),
        ({"lograndint": [1, 101]}, 10),
    ],
)
def test_without_a_default_the_middle_comes_first(form: Any, middle: float) -> None:
    name = "weight_decay"
    assert parsed(**{name: form}).first() == {name: pytest.approx(middle)}


def test_a_default_replaces_the_middle_of_its_parameter_alone() -> None:
    space = parse_space(
        {"lr": {"uniform": [1, 3]}, "warmup": {"uniform": [0, 0.5]}, "batch_size": 8},
        {"warmup": 0.1},
    )
    assert space.first() == {"lr": 2.0, "warmup": 0.1, "batch_size": 8}


DECAY = {"uniform": [0.5, 0.9], "when": {"blocks": ["11-7", "all"]}, "otherwise": 1.0}


def test_a_parameter_is_sampled_only_where_it_matters() -> None:
    space = parsed(blocks={"choice": ["11", "11-7", "all"]}, llrd_decay=DECAY)
    seen = {params["blocks"]: params["llrd_decay"] for params, _ in samples(space, 0, 40)}
    assert seen["11"] == 1.0
    assert 0.5 <= seen["11-7"] <= 0.9
    assert 0.5 <= seen["all"] <= 0.9


@pytest.mark.parametrize(("blocks", "decay"), [("11", 1.0), ("11-7", 0.6)])
def test_defaults_respect_conditions(blocks: str, decay: float) -> None:
    space = parse_space(
        {"blocks": {"choice": ["11", "11-7"]}, "llrd_decay": DECAY},
        {"blocks": blocks, "llrd_decay": 0.6},
    )
    assert space.first() == {"blocks": blocks, "llrd_decay": decay}
    assert set(space.distributions(space.first())) == (
        {"blocks"} if blocks == "11" else {"blocks", "llrd_decay"}
    )


def test_several_conditions_hold_together() -> None:
    when = {"blocks": "11-7", "kinds": ["ln", "attn"]}
    lr = {"uniform": [1, 2], "when": when, "otherwise": 5}
    for kinds, value in (("ln", 1.5), ("mlp", 5.0)):
        assert parsed(blocks="11-7", kinds=kinds, lr=lr).first()["lr"] == value
    assert parsed(blocks="all", kinds="ln", lr=lr).first()["lr"] == 5.0


def test_a_value_that_is_not_sampled_was_not_sampled() -> None:
    space = parsed(blocks="11", head_start={"choice": ["probe"]})
    assert set(space.distributions({"blocks": "11", "head_start": "probe"})) == {"head_start"}
    assert space.distributions({"blocks": "11", "head_start": "zeros"}) == {}


# What a space can reach


@pytest.mark.parametrize(
    ("space", "size"),
    [
        ({"lr": 1e-3}, 1),
        ({"blocks": {"choice": ["11", "all"]}, "batch_size": {"randint": [1, 5]}}, 8),
        ({"lr": {"quniform": [0.5, 2.5, 0.5]}}, 5),
        ({"lr": {"quniform": [1e-9, 100, 1e-9]}}, MANY),  # not counted to the end
        ({"lr": {"uniform": [1, 2]}, "blocks": {"choice": ["11", "all"]}}, math.inf),
    ],
)
def test_size_counts_configurations(space: dict[str, Any], size: float) -> None:
    assert parse_space(space, {}).size == size


def test_reachable_lists_fixed_chosen_conditional_and_default_values() -> None:
    kinds = {"choice": ["ln"], "when": {"blocks": "11"}, "otherwise": "mlp"}
    space = parsed(blocks={"choice": ["11", "all"]}, kinds=kinds, batch_size=8)
    assert space.reachable("blocks") == ("11", "all")
    assert space.reachable("kinds") == ("ln", "mlp")
    assert space.reachable("batch_size") == (8,)
    assert space.reachable("head_start") == ("probe",)
    assert parsed(lr={"quniform": [1, 2, 0.5]}).reachable("lr") == (1.0, 1.5, 2.0)


def test_a_continuous_parameter_cannot_be_listed() -> None:
    with pytest.raises(ValueError, match="cannot be listed"):
        parsed(lr={"uniform": [1, 2]}).reachable("lr")


def test_what_a_condition_rules_out_is_not_counted() -> None:
    kinds = {"choice": ["ln", "attn", "mlp"], "when": {"blocks": ["11"]}, "otherwise": "ln"}
    space = parsed(blocks={"choice": ["none", "11"]}, kinds=kinds)
    assert space.size == 4
    assert parsed(**{"blocks": "11", "lr": {"uniform": [0.1, 1]}}).size == math.inf
    assert parsed(batch_size={"randint": [1, 60_000]}).size == MANY


@pytest.mark.parametrize(
    ("solver", "start", "name", "form"),
    [
        ("lbfgs", "probe", "lr", {"loguniform": [1e-4, 1e-2]}),
        ("lbfgs", "probe", "head_start", {"choice": ["probe", "zero_shot"]}),
        ("lbfgs", "probe", "gda", {"choice": [0.0, 1.0]}),
        ("gda", "zero_shot", "weight_decay", {"choice": [0.1, 1.0]}),
        ("none", "zero_shot", "lr", {"uniform": [0.1, 0.2]}),
        ("adamw", "probe", "gda", {"choice": [0.0, 1.0]}),
    ],
)
def test_what_no_trial_would_use_is_not_searched(
    solver: str, start: str, name: str, form: Any
) -> None:
    space = {"blocks": "none", "solver": solver, "head_start": start, name: form}
    with pytest.raises(ValueError, match=rf"^{name}: solver: {solver} does not use it; it may"):
        parse_space(space, {})
