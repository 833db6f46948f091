from __future__ import annotations

import dataclasses
import math
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from errors import InputError
from files import nearest
from models.encoder import Encoder
from models.towers import split_tower
from search_spaces import Experiment
from tests.models.tiny_towers import DEPTH, TOWERS, convnext, native
from tests.tune.search.simulated import FROZEN, ZEROS
from tune.features import plan as plan_module
from tune.features.plan import Plan, block_rows, make_plan

IMAGES = {"train": 100, "val": 20, "test": 30}
ALL = ("pixels", *(f"block {i}" for i in range(DEPTH)), "final", "head")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return split_tower(native())


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A machine of 64 GB, and as much on disk."""
    machine = SimpleNamespace(memory=64 * 10**9, disk=64 * 10**9)
    monkeypatch.setattr(plan_module, "own_memory", lambda: machine.memory)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=machine.disk))
    return machine


def planned(
    encoder: Encoder,
    *spaces: dict[str, Any],
    dtype: str = "float32",
    probe: bool = True,
    images: dict[str, int] = IMAGES,
    used: dict[str, int] | None = None,
    final: dict[str, Any] | None = None,
) -> Plan:
    """Of a probe, unless told otherwise, and a method for each space."""
    methods = {f"m{i}": {"space": space} for i, space in enumerate(spaces)}
    experiment = Experiment.model_validate(
        {
            "name": "planned",
            "data": {"source": "digits", "partitions": [10, 100]},
            "features": {"dtype": dtype},
            "final": final or {},
            "methods": {"frozen": FROZEN, **methods} if probe else methods,
        }
    )
    sizes = {10.0: images["train"] // 10, 100.0: images["train"]}
    return make_plan(experiment, encoder, images, used or images, sizes, Path("/nowhere/yet"))


def choice(*values: str) -> dict[str, Any]:
    return {"choice": list(values)}


@pytest.mark.parametrize(
    ("space", "boundaries"),
    [
        ({"blocks": "none"}, ("head",)),
        ({"blocks": "2"}, ("block 2", "head")),
        ({"blocks": "2-1"}, ("block 1", "head")),
        ({"blocks": "1-2"}, ("block 1", "head")),
        ({"blocks": "1-0"}, ("block 0", "head")),
        ({"blocks": "all"}, ("pixels", "head")),
        ({"blocks": "all", "kinds": "attn"}, ("block 0", "head")),
        ({"blocks": choice("2", "2-1")}, ("block 1", "block 2", "head")),
        ({"blocks": choice("none", "2", "all")}, ("pixels", "block 2", "head")),
        ({"blocks": "all", "kinds": choice("ln", "mlp")}, ("pixels", "block 0", "head")),
    ],
)
def test_boundaries_are_those_a_trial_may_start_from(
    encoder: Encoder, space: dict[str, Any], boundaries: tuple[str, ...]
) -> None:
    assert planned(encoder, space).boundaries == boundaries


def test_every_methods_boundaries_are_cached_once_and_in_order(encoder: Encoder) -> None:
    plan = planned(encoder, {"blocks": choice("2", "1")}, {"blocks": choice("1", "all")})
    assert plan.boundaries == ("pixels", "block 1", "block 2", "head")


def test_conditional_blocks_count_too(encoder: Encoder) -> None:
    when = {"kinds": "ln"}
    space = {"kinds": "attn", "blocks": {**choice("2"), "when": when, "otherwise": "0"}}
    assert planned(encoder, space).boundaries == ("block 0", "block 2", "head")


def test_where_memory_is_short_each_method_starts_from_its_lowest_boundary(
    encoder: Encoder, machine: SimpleNamespace
) -> None:
    spaces = [{"blocks": choice("2", "1", "1-0")}, {"blocks": choice("2", "1")}]
    whole = planned(encoder, *spaces)
    assert whole.boundaries == ("block 0", "block 1", "block 2", "head")
    machine.memory = 4 * whole.disk_bytes
    assert planned(encoder, *spaces).boundaries == whole.boundaries
    machine.memory = 4 * whole.disk_bytes - 4
    assert planned(encoder, *spaces).boundaries == ("block 0", "block 1", "head")


def test_where_memory_is_short_embeddings_are_still_cached(
    encoder: Encoder, machine: SimpleNamespace
) -> None:
    machine.memory = 1
    space = {"blocks": choice("none", "2"), "head_start": "zeros"}
    assert planned(encoder, space, probe=False).boundaries == ("block 2", "head")


def test_what_memory_cannot_hold_may_take_half_of_the_disk(
    encoder: Encoder, machine: SimpleNamespace
) -> None:
    space = {"blocks": choice("2", "1", "1-0")}
    whole = planned(encoder, space)
    machine.memory = 1
    assert planned(encoder, space).boundaries == whole.boundaries
    machine.disk = 2 * whole.disk_bytes - 4
    assert planned(encoder, space).boundaries == ("block 0", "block 1", "head")
    machine.disk = 1
    assert planned(encoder, space).boundaries == ("block 0", "head")


def test_sizes_are_those_of_the_features(encoder: Encoder) -> None:
    full = planned(encoder, {"blocks": "all"})
    half = planned(encoder, {"blocks": "all"}, dtype="float16")
    assert full.image_bytes == {"pixels": 4 * 3 * 16 * 16, "head": 4 * encoder.dim}
    assert full.disk_bytes == 150 * sum(full.image_bytes.values())
    assert half.disk_bytes * 2 == full.disk_bytes
    assert full.encoder_bytes == 4 * sum(p.numel() for p in encoder.parameters())


def test_arrays_that_take_too_much_memory_stay_on_disk(
    encoder: Encoder, machine: SimpleNamespace
) -> None:
    plan = planned(encoder, {"blocks": "all"})
    everything = plan.disk_bytes + plan.encoder_bytes
    assert plan.store_bytes == math.ceil(1.25 * everything)
    machine.memory = 10**6
    small = planned(encoder, {"blocks": "all"})
    train_pixels = IMAGES["train"] * small.image_bytes["pixels"]
    assert small.map_above() < train_pixels
    assert small.store_bytes <= math.ceil(1.25 * (everything - train_pixels))


@given(memory=st.integers(1, 10**7), views=st.integers(0, 3), phone=st.integers(1, 500))
@settings(max_examples=100, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_as_many_arrays_as_fit_are_kept_in_memory_the_small_ones_first(
    encoder: Encoder, machine: SimpleNamespace, memory: int, views: int, phone: int
) -> None:
    machine.memory = memory
    plan = planned(encoder, {"blocks": "all", "views": views}, images={**IMAGES, "phone": phone})
    room = plan_module.STORE_SHARE * memory
    kept = [array for array in plan.arrays if array <= plan.map_above()]
    on_disk = [array for array in plan.arrays if array > plan.map_above()]
    assert sum(kept) <= room
    # Arrays of one size go together: not all of the next size would fit.
    assert not on_disk or sum(kept) + on_disk.count(min(on_disk)) * min(on_disk) > room
    assert plan.store_bytes == math.ceil(1.25 * (sum(kept) + plan.encoder_bytes))
    assert plan.disk_bytes == sum(plan.arrays)


@given(store=st.integers(1, 10**7))
@settings(max_examples=100, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
def test_the_smallest_object_store_has_room_for_all_that_is_put_there(
    encoder: Encoder, machine: SimpleNamespace, store: int
) -> None:
    """However much memory the driver's machine has."""
    plan = planned(encoder, {"blocks": "all"})
    above = plan.map_above(store)
    kept = [array for array in plan.arrays if array <= above]
    on_disk = [array for array in plan.arrays if array > above]
    room = store / 1.25 - plan.encoder_bytes
    assert not kept or sum(kept) <= room
    assert not on_disk or sum(kept) + on_disk.count(min(on_disk)) * min(on_disk) > room
    assert plan.map_above(plan.store_bytes) == plan.map_above()  # this run's own Ray has enough


def test_views_and_extra_tests_take_space(encoder: Encoder) -> None:
    plain = planned(encoder, {"blocks": "2"})
    each = sum(plain.image_bytes.values())
    viewed = planned(encoder, {"blocks": "2", "views": {"choice": [0, 3]}})
    probe = plain.image_bytes["head"]  # whose method has no views
    assert viewed.view_boundaries == ("block 2",)
    assert viewed.disk_bytes == plain.disk_bytes + 3 * IMAGES["train"] * (each - probe)
    further = planned(encoder, {"blocks": "2"}, images={**IMAGES, "phone": 7})
    assert further.disk_bytes == plain.disk_bytes + 7 * each


def test_exported_weights_are_those_that_can_be_trained(encoder: Encoder) -> None:
    final = {"seeds": 2, "keep": "all"}
    plan = planned(encoder, {"blocks": choice("2", "all"), "kinds": choice("ln", "attn")},
                   final=final)  # fmt: skip
    attention = [
        parameter.numel()
        for group in encoder.groups
        for _, kind, parameter in group.parameters_by_kind()
        if kind == "attn"
    ]
    assert plan.trained_bytes == {"frozen": 0, "m0": 4 * sum(attention)}
    assert plan.export_bytes == 2 * 2 * 4 * sum(attention)  # two partitions
    one = planned(encoder, {"blocks": "2"}, final={"seeds": 2})
    every = planned(encoder, {"blocks": "2"}, final=final)
    assert 2 * one.export_bytes == every.export_bytes > 0
    assert planned(encoder, {"blocks": "2"}, final={"export": False}).export_bytes == 0


def test_final_fits_take_their_operations_at_the_speed_that_slots_have(encoder: Encoder) -> None:
    final = {"seeds": 3}  # the first of which the search may have trained
    plan = planned(encoder, {"blocks": "2"}, final=final)
    flops = sum(
        2 * plan.experiment.horizon(name, images) * from_cache
        for name, (from_cache, _) in plan.sample_flops.items()
        for images in plan.partition_images.values()
    )
    core, gpu = plan_module.FASTEST["CPU"], plan_module.FASTEST["GPU"]
    assert plan.least_seconds({"CPU": 2.0}, 4) == pytest.approx(flops / (8 * core))
    assert plan.least_seconds({"CPU": 1.0, "GPU": 0.5}, 1) == pytest.approx(
        flops / (core + gpu / 2)
    )
    assert planned(encoder, {"blocks": "2"}, final={"seeds": 1}).least_seconds({"CPU": 1}, 1) == 0


def test_trials_are_counted_over_all_cells(encoder: Encoder) -> None:
    plan = planned(encoder, {"blocks": "2"}, {**ZEROS["space"], "blocks": "1"})
    assert plan.trials == 2 * (3 + 1 + 16)


def test_a_full_disk_is_refused(encoder: Encoder, machine: SimpleNamespace) -> None:
    plan = planned(encoder, {"blocks": "all"})
    machine.disk = plan.disk_bytes
    planned(encoder, {"blocks": "all"}).check(Path("/cache"))
    machine.disk = plan.disk_bytes - 1
    with pytest.raises(
        InputError, match=r"^features\.cache: /cache has .* but the features take"
    ) as e:
        planned(encoder, {"blocks": "all"}).check(Path("/cache"))
    assert "allowed: another folder, features.dtype: float16" in str(e.value)
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"blocks": "3"}, "blocks: '3' asks for block 3, but the encoder's blocks are 0 to 2"),
        ({"blocks": choice("2", "11-7")}, "blocks: '11-7' asks for block 11"),
        ({"blocks": "2", "kinds": "embed"}, "kinds: blocks 2 hold no parameters of embed"),
    ],
)
def test_blocks_that_the_encoder_does_not_have_are_refused(
    encoder: Encoder, space: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError) as error:
        planned(encoder, space)
    assert str(error.value).startswith(f"methods.m0.space.{message}")
    assert "\n" not in str(error.value)


def test_a_plan_is_printed(encoder: Encoder) -> None:
    console = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    planned(encoder, {"blocks": "2"}).render(console)
    text = console.export_text()
    assert "used" not in text
    for words in ("planned", "100 train, 20 val, 30 test", "frozen", "block 2", "8 trials"):
        assert words in text
    assert "22 final fits" in text  # of two methods: 8 of 10 images, and 3 of all


def test_a_plan_is_of_the_images_that_are_used(encoder: Encoder) -> None:
    used = {**IMAGES, "train": 40}
    whole, few = (planned(encoder, {"blocks": "2", "views": 1}, used=of) for of in (IMAGES, used))
    views = few.image_bytes["block 2"]
    assert whole.disk_bytes - few.disk_bytes == 60 * (sum(few.image_bytes.values()) + views)
    console = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    few.render(console)
    assert "images: 100 train (40 used), 20 val, 30 test" in console.export_text()


def test_blocks_are_listed_where_they_differ(encoder: Encoder) -> None:
    assert planned(encoder, {"blocks": "2"}).blocks == []
    staged = split_tower(TOWERS["ResNet"]())
    plan = planned(staged, {"blocks": "2", "kinds": "conv"})
    sizes = [sum(p.numel() for p in staged.group(i).parameters()) for i in (1, 2, 3)]
    assert plan.blocks == [
        ("0", f"{sizes[0]:,}", "ln+conv", "8x4x4"),
        ("1", f"{sizes[1]:,}", "ln+conv", "32x4x4"),
        ("2", f"{sizes[2]:,}", "ln+conv", "64x2x2"),
    ]
    long = split_tower(convnext(depths=(1, 4, 1, 1)))
    assert [row[0] for row in block_rows(long)] == ["0", "1", "2-4"]
    console = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    plan.render(console)
    assert re.search(r"2 +[\d,]+ +ln\+conv +64x2x2", console.export_text())


def test_a_plan_names_a_source_with_brackets_as_it_is(encoder: Encoder) -> None:
    plan = planned(encoder, {"blocks": "2"})
    data = plan.experiment.data.model_copy(update={"source": "/photos/[old]/[/x]"})
    experiment = plan.experiment.model_copy(update={"data": data})
    console = Console(width=120, record=True, quiet=False, file=open("/dev/null", "w"))  # noqa: SIM115
    dataclasses.replace(plan, experiment=experiment).render(console)
    assert "/photos/[old]/[/x], images" in console.export_text()


def test_a_caches_disk_is_that_of_its_nearest_folder(tmp_path: Path) -> None:
    assert nearest(tmp_path / "a" / "b") == tmp_path
    assert nearest(tmp_path) == tmp_path
