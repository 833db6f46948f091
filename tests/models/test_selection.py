"""A recipe selects parameters; everything else follows from the selection."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InputError
from models.encoder import Encoder
from models.recipe import KINDS, Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.test_exactness import is_decayed
from tests.models.tiny_towers import DEPTH, TOWERS, native, timm, tower_name

TOWERS_BY_NAME = {name: build() for name, build in TOWERS.items()}
ENCODERS = {name: split_tower(tower) for name, tower in TOWERS_BY_NAME.items()}
ENCODER = ENCODERS["native"]
DEEP = split_tower(native(layers=12))

# Three kinds that every block of these has.
encoders = st.sampled_from(
    [
        one
        for name, one in ENCODERS.items()
        if not name.startswith(("ConvNeXt", "ResNet", "FastViT"))
    ]
)
block_kinds = st.sets(st.sampled_from(("ln", "attn", "mlp")), min_size=1)
numbers = st.integers(0, DEPTH - 1)
ranges = st.one_of(
    st.just("all"),
    numbers.map(str),
    st.tuples(numbers, numbers).map(lambda ends: f"{ends[0]}-{ends[1]}"),
)


def names_of(encoder: Encoder, blocks: Any) -> set[str]:
    """The layer groups that hold something trained, where every kind is."""
    recipe = Recipe(blocks=blocks, kinds="+".join(KINDS))
    return {p.key.partition("/")[0] for p in select(recipe, encoder).parameters}


@pytest.mark.parametrize(
    ("blocks", "expected", "others"),
    [
        ("none", [], []),
        ("all", range(12), ["stem", "final"]),
        ("11", [11], ["final"]),
        (11, [11], ["final"]),
        ("11-7", [7, 8, 9, 10, 11], ["final"]),
        ("last 5", [7, 8, 9, 10, 11], ["final"]),
        ("last 1", [11], ["final"]),
        ("last 50", list(range(12)), ["final"]),
        ("7-11", [7, 8, 9, 10, 11], ["final"]),
        ("0-0", [0], []),
        ("3-5", [3, 4, 5], []),
        ("final", [], ["final"]),
    ],
)
def test_block_ranges(blocks: Any, expected: list[int], others: list[str]) -> None:
    assert names_of(DEEP, blocks) == {*(f"block {i}" for i in expected), *others}


@given(st.integers(0, 30), st.integers(0, 30), encoders)
def test_a_range_is_its_blocks_or_bad_input(one: int, other: int, encoder: Encoder) -> None:
    if max(one, other) >= DEPTH:
        with pytest.raises(InputError, match=f"block {max(one, other)}") as error:
            names_of(encoder, f"{one}-{other}")
        assert "\n" not in str(error.value)
        assert f"0 to {DEPTH - 1}" in str(error.value)
    else:
        chosen = {f"block {i}" for i in range(DEPTH) if min(one, other) <= i <= max(one, other)}
        assert names_of(encoder, f"{one}-{other}") - {"final"} == chosen


@given(encoders, ranges, block_kinds)
def test_only_chosen_blocks_and_kinds_are_trained(
    encoder: Encoder, blocks: str, kinds: set[str]
) -> None:
    selection = select(Recipe(blocks=blocks, kinds="+".join(sorted(kinds))), encoder)
    chosen = names_of(encoder, blocks)
    expected = {
        (i, name): (kind, parameter.numel())
        for i in range(len(encoder.groups))
        for name, kind, parameter in encoder.group(i).parameters_by_kind()
        if encoder.group(i).name in chosen and kind in kinds
    }
    assert {(p.group, p.name): p.kind for p in selection.parameters} == {
        where: kind for where, (kind, _) in expected.items()
    }
    assert selection.count == sum(size for _, size in expected.values())


@given(encoders, ranges, block_kinds)
def test_the_boundary_is_that_of_the_lowest_trained_group(
    encoder: Encoder, blocks: str, kinds: set[str]
) -> None:
    selection = select(Recipe(blocks=blocks, kinds="+".join(sorted(kinds))), encoder)
    lowest = min(p.group for p in selection.parameters)
    assert encoder.index(selection.boundary) == lowest
    assert selection.boundaries == encoder.boundaries[: lowest + 1]


@given(encoders, numbers, numbers, block_kinds)
def test_the_boundary_sinks_as_more_blocks_are_trained(
    encoder: Encoder, one: int, other: int, kinds: set[str]
) -> None:
    def boundary(blocks: str) -> int:
        recipe = Recipe(blocks=blocks, kinds="+".join(sorted(kinds)))
        return encoder.index(select(recipe, encoder).boundary)

    low, high = sorted((one, other))
    top = DEPTH - 1
    assert boundary("all") <= boundary(f"{low}-{top}") <= boundary(f"{high}-{top}")
    assert boundary(f"{high}-{top}") < boundary("none")


@given(ranges, st.sets(st.sampled_from(ENCODER.boundaries)))
def test_a_fit_is_fed_from_the_highest_cached_boundary_below_it(
    blocks: str, cached: set[str]
) -> None:
    selection = select(Recipe(blocks=blocks), ENCODER)
    allowed = [b for b in cached if ENCODER.index(b) <= ENCODER.index(selection.boundary)]
    if allowed:
        assert selection.fed_from(cached) == max(allowed, key=ENCODER.index)
    else:
        with pytest.raises(ValueError, match=r"none of the features .* is cached"):
            selection.fed_from(cached)


@given(encoders, ranges, st.floats(0.01, 1))
def test_the_rate_falls_by_the_decay_from_block_to_block(
    encoder: Encoder, blocks: str, decay: float
) -> None:
    recipe = Recipe(blocks=blocks, kinds="+".join(KINDS), llrd_decay=decay)
    scales: dict[int, set[float]] = {}
    for p in select(recipe, encoder).parameters:
        scales.setdefault(p.group, set()).add(p.lr_scale)
    for i, found in scales.items():
        # Group i is block i - 1; the last block and what lies above it have the whole rate.
        assert found == {decay ** max(0, DEPTH - i)}
    by_depth = [scales[i].pop() for i in sorted(scales)]
    assert by_depth == sorted(by_depth)
    assert max(by_depth) <= 1


def test_the_last_block_and_final_have_the_whole_rate_and_the_stem_the_least() -> None:
    recipe = Recipe(blocks="all", kinds="+".join(KINDS), llrd_decay=0.5)
    scales = {p.group: p.lr_scale for p in select(recipe, ENCODER).parameters}
    assert scales == {0: 0.125, 1: 0.25, 2: 0.5, 3: 1.0, 4: 1.0}


def test_a_frozen_encoder_trains_nothing_and_starts_from_embeddings() -> None:
    selection = select(Recipe(), ENCODER)
    assert (selection.parameters, selection.count) == ((), 0)
    assert selection.boundary == "head"


def test_keys_say_where_a_parameter_belongs() -> None:
    parameters = select(Recipe(blocks="2-1", kinds="mlp"), ENCODER).parameters
    assert {p.key.partition("/")[0] for p in parameters} == {"block 1", "block 2"}
    assert all(p.key.partition("/")[2] == p.name for p in parameters)
    assert all(ENCODER.group(p.group).get_parameter(p.name) is not None for p in parameters)


@pytest.mark.parametrize("blocks", ["1", "0-1"])
@pytest.mark.parametrize("kinds", ["proj", "embed", "embed+proj"])
def test_kinds_that_the_blocks_do_not_hold_are_bad_input(blocks: str, kinds: str) -> None:
    with pytest.raises(InputError, match=rf"kinds: blocks {blocks} hold no parameters of"):
        select(Recipe(blocks=blocks, kinds=kinds), ENCODER)


def test_blocks_the_encoder_lacks_are_bad_input() -> None:
    for blocks in ("11-7", "3"):
        with pytest.raises(InputError, match="blocks"):
            select(Recipe(blocks=blocks), ENCODER)


@pytest.mark.parametrize("name", TOWERS)
def test_decay_is_for_matrices(name: str) -> None:
    """Their `no_weight_decay` has none, nor position tables and scales, nor what has one side."""
    tower, encoder = TOWERS_BY_NAME[name], ENCODERS[name]
    trunk = getattr(tower, "trunk", tower)
    exempt = trunk.no_weight_decay() if hasattr(trunk, "no_weight_decay") else set()
    selection = select(Recipe(blocks="all", kinds="+".join(KINDS)), encoder)
    assert len(selection.parameters) == len(list(tower.parameters()))
    for p in selection.parameters:
        group = encoder.group(p.group)
        theirs = tower_name(tower, group.name, p.name)
        assert p.decays == is_decayed(theirs, group.get_parameter(p.name)), theirs
        assert not (p.decays and theirs.removeprefix("trunk.") in exempt), theirs
        assert not (p.kind == "ln" and p.decays)


def test_the_patch_convolution_decays_in_every_tower() -> None:
    for tower, name in ((native(), "part.conv1.weight"), (timm(), "part.patch_embed.proj.weight")):
        assert split_tower(tower).group(0).uses_weight_decay(name)
