"""A recipe selects parameters; everything else follows from the selection."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from errors import InputError
from models.encoder import layer_groups
from models.recipe import KINDS, Recipe, decays
from tests.models.tiny_towers import DEPTH, TOWERS, native, timm, tower_name

TOWERS_BY_NAME = {name: build() for name, build in TOWERS.items()}
ENCODERS = {name: layer_groups(tower) for name, tower in TOWERS_BY_NAME.items()}
ENCODER = ENCODERS["native"]

encoders = st.sampled_from(list(ENCODERS.values()))
kind_sets = st.sets(st.sampled_from(KINDS), min_size=1)
# A block and three kinds that every block has.
block_kinds = st.sets(st.sampled_from(("ln", "attn", "mlp")), min_size=1)
numbers = st.integers(0, DEPTH - 1)
ranges = st.one_of(
    st.just("all"),
    numbers.map(str),
    st.tuples(numbers, numbers).map(lambda ends: f"{ends[0]}-{ends[1]}"),
)


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ("none", []),
        ("all", list(range(12))),
        ("11", [11]),
        (11, [11]),
        ("11-7", [7, 8, 9, 10, 11]),
        ("7-11", [7, 8, 9, 10, 11]),
        ("0-0", [0]),
    ],
)
def test_block_ranges(blocks: Any, expected: list[int]) -> None:
    assert list(Recipe(blocks=blocks).block_range(12)) == expected


@given(st.integers(0, 30), st.integers(0, 30), st.integers(1, 24))
def test_a_range_is_its_blocks_or_bad_input(one: int, other: int, depth: int) -> None:
    recipe = Recipe(blocks=f"{one}-{other}")
    if max(one, other) >= depth:
        with pytest.raises(InputError, match=f"block {max(one, other)}") as error:
            recipe.block_range(depth)
        assert "\n" not in str(error.value)
        assert f"0 to {depth - 1}" in str(error.value)
    else:
        assert set(recipe.block_range(depth)) == {
            i for i in range(depth) if min(one, other) <= i <= max(one, other)
        }


@given(encoders, ranges, block_kinds)
def test_only_chosen_blocks_and_kinds_are_trained(encoder: Any, blocks: str, kinds: Any) -> None:
    recipe = Recipe(blocks=blocks, kinds="+".join(sorted(kinds)))
    chosen = {f"block {i}" for i in recipe.block_range(DEPTH)}
    if f"block {DEPTH - 1}" in chosen:
        chosen.add("final")
    if blocks == "all":
        chosen.add("stem")
    expected = {
        (i, name)
        for i in range(len(encoder.groups))
        for name, kind, _ in encoder.group(i).parameters_by_kind()
        if encoder.group(i).name in chosen and kind in kinds
    }
    assert set(recipe.trained_parameters(encoder)) == expected


@given(encoders, ranges, block_kinds)
def test_the_boundary_is_that_of_the_lowest_trained_group(
    encoder: Any, blocks: str, kinds: Any
) -> None:
    recipe = Recipe(blocks=blocks, kinds="+".join(sorted(kinds)))
    boundary = encoder.index(recipe.boundary(encoder))
    groups = {i for i, _ in recipe.trained_parameters(encoder)}
    assert boundary == min(groups)


@given(encoders, numbers, numbers, block_kinds)
def test_the_boundary_sinks_as_more_blocks_are_trained(
    encoder: Any, one: int, other: int, kinds: Any
) -> None:
    def boundary(blocks: str) -> int:
        recipe = Recipe(blocks=blocks, kinds="+".join(sorted(kinds)))
        return int(encoder.index(recipe.boundary(encoder)))

    low, high = sorted((one, other))
    top = DEPTH - 1
    assert boundary("all") <= boundary(f"{low}-{top}") <= boundary(f"{high}-{top}")
    assert boundary(f"{high}-{top}") < boundary("none")


@given(encoders, ranges, st.floats(0.01, 1))
def test_the_rate_falls_by_the_decay_from_block_to_block(
    encoder: Any, blocks: str, decay: float
) -> None:
    recipe = Recipe(blocks=blocks, kinds="+".join(KINDS), llrd_decay=decay)
    factors: dict[int, set[float]] = {}
    for (i, _), factor in recipe.trained_parameters(encoder).items():
        factors.setdefault(i, set()).add(factor)
    for i, found in factors.items():
        # Group i is block i - 1; the last block and what lies above it have the whole rate.
        assert found == {decay ** max(0, DEPTH - i)}
    by_depth = [factors[i].pop() for i in sorted(factors)]
    assert by_depth == sorted(by_depth)
    assert max(by_depth) <= 1


def test_the_last_block_and_final_have_the_whole_rate_and_the_stem_the_least() -> None:
    recipe = Recipe(blocks="all", kinds="+".join(KINDS), llrd_decay=0.5)
    factors = {i: factor for (i, _), factor in recipe.trained_parameters(ENCODER).items()}
    assert factors == {0: 0.125, 1: 0.25, 2: 0.5, 3: 1.0, 4: 1.0}


def test_a_frozen_encoder_trains_nothing_and_starts_from_embeddings() -> None:
    assert Recipe().trained_parameters(ENCODER) == {}
    assert Recipe().boundary(ENCODER) == "head"


@pytest.mark.parametrize("blocks", ["1", "0-1"])
@pytest.mark.parametrize("kinds", ["proj", "embed", "embed+proj"])
def test_kinds_that_the_blocks_do_not_hold_are_bad_input(blocks: str, kinds: str) -> None:
    with pytest.raises(InputError, match=rf"kinds: blocks {blocks} hold no parameters of"):
        Recipe(blocks=blocks, kinds=kinds).trained_parameters(ENCODER)


def test_blocks_the_encoder_lacks_are_bad_input() -> None:
    for ask in (Recipe(blocks="11-7").trained_parameters, Recipe(blocks="3").boundary):
        with pytest.raises(InputError, match="blocks"):
            ask(ENCODER)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": "last"}, "names no blocks"),
        ({"blocks": "7-"}, "names no blocks"),
        ({"blocks": "-1"}, "names no blocks"),
        ({"blocks": -1}, "names no blocks"),
        ({"blocks": "1,2"}, "names no blocks"),
        ({"blocks": True}, "string"),
        ({"kinds": "ln+conv"}, "unknown kind 'conv'"),
        ({"kinds": ""}, "unknown kind ''"),
        ({"kinds": "ln+mlp+ln"}, "names a kind twice"),
        ({"blocks": "1", "head_lr": [1e-3, 1e-2]}, "need blocks: none"),
        ({"blocks": "1", "weight_decay": [0, 0.1]}, "need blocks: none"),
        ({"head_lr": []}, "at least 1"),
        ({"lr": -1e-3}, "greater than 0"),
        ({"lr": 0}, "greater than 0"),
        ({"lr": math.nan}, "(?i)finite|greater"),
        ({"lr": math.inf}, "(?i)finite|less"),
        ({"head_lr": [1e-3, math.nan]}, "(?i)finite|greater"),
        ({"weight_decay": -0.1}, "greater than or equal to 0"),
        ({"weight_decay": math.nan}, "(?i)finite|greater"),
        ({"llrd_decay": 0}, "greater than 0"),
        ({"llrd_decay": 1.1}, "less than or equal to 1"),
        ({"llrd_decay": math.nan}, "(?i)greater|less"),
        ({"warmup": 1}, "less than 1"),
        ({"warmup": -0.1}, "greater than or equal to 0"),
        ({"label_smoothing": 1}, "less than 1"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"batch_size": 2.5}, "integer"),
        ({"head_start": "random"}, "'probe', 'zero_shot' or 'zeros'"),
        ({"solver": "newton"}, "'adamw', 'lbfgs' or 'none'"),
        ({"solver": "lbfgs", "blocks": "1"}, "solver: lbfgs needs blocks: none"),
        ({"solver": "none", "blocks": "all"}, "solver: none needs blocks: none"),
        ({"solver": "none"}, "solver: none needs head_start: zero_shot"),
        ({"views": -1}, "greater than or equal to 0"),
        ({"views": 65}, "less than or equal to 64"),
        ({"momentum": 0.9}, "not permitted"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe(**settings)


def test_a_bank_is_every_pair() -> None:
    recipe = Recipe(head_lr=[1e-3, 1e-2], weight_decay=[0, 0.1, 1])
    assert recipe.bank == tuple((lr, wd) for lr in (1e-3, 1e-2) for wd in (0.0, 0.1, 1.0))
    assert Recipe(head_lr=0.5, weight_decay=0.1).bank == ((0.5, 0.1),)
    assert Recipe(blocks="1", head_lr=[0.5]).bank == ((0.5, 0.0),)


def test_a_solver_has_no_rates_and_none_has_no_decays_either() -> None:
    settings = {"head_lr": [1e-3, 1e-2], "weight_decay": [0, 0.1, 1]}
    solved = Recipe(solver="lbfgs", **settings)
    kept = Recipe(solver="none", head_start="zero_shot", **settings)
    assert [decay for _, decay in solved.bank] == [0, 0.1, 1]
    assert len(kept.bank) == 1
    assert not solved.trained
    assert not kept.trained


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({}, "zeros"),  # a probe is what others start from
        ({"solver": "lbfgs", "head_start": "zero_shot"}, "zeros"),
        ({"solver": "none", "head_start": "zero_shot"}, "zero_shot"),
        ({"head_start": "zero_shot"}, "zero_shot"),
        ({"blocks": "1"}, "probe"),
        ({"blocks": "1", "head_start": "zero_shot"}, "zero_shot"),
        ({"blocks": "1", "head_start": "zeros"}, "zeros"),
    ],
)
def test_where_the_head_starts(settings: dict[str, Any], start: str) -> None:
    assert Recipe(**settings).start == start


@pytest.mark.parametrize("name", TOWERS)
def test_decay_is_for_matrices(name: str) -> None:
    """As open_clip and timm have it: their `no_weight_decay`, and nothing of one dimension."""
    tower, encoder = TOWERS_BY_NAME[name], ENCODERS[name]
    exempt = getattr(tower, "trunk", tower).no_weight_decay()
    for i in range(len(encoder.groups)):
        group = encoder.group(i)
        for key, kind, parameter in group.parameters_by_kind():
            theirs = tower_name(tower, group.name, key).removeprefix("trunk.")
            assert decays(key, parameter) == (parameter.ndim >= 2 and theirs not in exempt), theirs
            assert not (kind == "ln" and decays(key, parameter))


def test_the_patch_convolution_decays_in_every_tower() -> None:
    for tower, name in ((native(), "conv1.weight"), (timm(), "trunk.patch_embed.proj.weight")):
        assert decays(name, tower.get_parameter(name))
