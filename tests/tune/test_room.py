"""What cannot fit on a GPU is refused before features are made, from the experiment alone."""

from __future__ import annotations

from typing import Any

import pytest

from errors import InputError
from models.device import CONTEXT
from models.flops import training_memory
from models.recipe import Recipe
from models.selection import select
from records import NodeView
from search_spaces import MethodConfig, load_experiment
from tests.runs.helpers import DIGITS
from tune.setup import Prepared, largest_need, placement, prepare

SLOT = {"CPU": 1.0, "GPU": 0.5}


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    whole = {"blocks": "all", "kinds": "ln+attn+mlp", "head_start": "zeros"}
    lora = {**whole, "lora_rank": {"choice": [2, 4]}}
    methods = f"methods={{whole: {{space: {whole}}}, lora: {{space: {lora}}}}}"
    return prepare(load_experiment(DIGITS, [methods, "data.partitions=[100]"]))


def placed(prepared: Prepared, gpu_bytes: int | None) -> Any:
    cluster = type("Cluster", (), {"slot": SLOT, "slots_at": {"n": 2}})
    nodes = [NodeView("n", "10.0.0.1", True, "code", gpu_bytes)]
    return placement(prepared, cluster, nodes, "float32")  # type: ignore[arg-type]


def test_needs_are_known_wherever_there_are_gpus(prepared: Prepared) -> None:
    encoder = prepared.pretrained.encoder
    recipe = Recipe(blocks="all", kinds="ln+attn+mlp")
    boundary = prepared.plan.boundaries[0]
    said = training_memory(encoder, select(recipe, encoder), boundary, "float32")
    assert placed(prepared, 8 << 30).needs == {("all", "ln+attn+mlp"): said}
    assert placed(prepared, None).needs == {}


def test_the_largest_trial_is_of_the_lowest_blocks_and_the_largest_batch(
    prepared: Prepared,
) -> None:
    (need,) = placed(prepared, 8 << 30).needs.values()
    assert largest_need(prepared) == need[0] + Recipe().batch_size * need[1]


def test_probes_alone_need_room_for_the_encoder(prepared: Prepared) -> None:
    probes = {"frozen": MethodConfig(space={"blocks": "none"})}
    experiment = prepared.experiment.model_copy(update={"methods": probes})
    only = Prepared(**{**vars(prepared), "experiment": experiment})
    assert placed(only, 8 << 30).needs == {}
    assert 1.2 < largest_need(only) / prepared.plan.encoder_bytes < 1.3


def test_a_gpu_that_is_too_small_is_refused(prepared: Prepared) -> None:
    with pytest.raises(InputError, match=r"^methods: blocks all .* a trial has 0\.0 GB; allowed: "):
        placed(prepared, CONTEXT // 100)


def test_lora_alone_needs_less(prepared: Prepared) -> None:
    experiment = prepared.experiment
    methods = {"lora": experiment.methods["lora"]}
    only = Prepared(
        **{**vars(prepared), "experiment": experiment.model_copy(update={"methods": methods})}
    )
    (low,), (whole,) = (placed(p, 8 << 30).needs.values() for p in (only, prepared))
    assert low[0] < whole[0]
