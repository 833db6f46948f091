"""One search space serves encoders of every family."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from errors import InputError
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from search_spaces import Experiment, load_experiment
from search_spaces.extending import READY
from tests.models.tiny_towers import TOWERS
from tune.features.plan import selections_of
from tune.kinds import fitted

ENCODERS = {name: split_tower(TOWERS[name]()) for name in ("native", "ConvNeXt", "Swin", "FastViT")}
ENCODERS["ResNet"] = split_tower(TOWERS["ResNet, timm"]())
VIT = ["ln+attn+mlp", "ln", "attn", "mlp", "ln+attn", "ln+mlp", "attn+mlp"]


def ready(**overrides: Any) -> Experiment:
    return load_experiment(READY / "folder.yaml", overrides=overrides)


def kinds_of(experiment: Experiment, method: str = "llrd") -> list[str]:
    return [*experiment.methods[method].parsed.reachable("kinds")]


@pytest.mark.parametrize("name", ENCODERS)
def test_the_ready_methods_fit_every_family(name: str) -> None:
    found, lines = fitted(ready(), ENCODERS[name])
    space = found.methods["llrd"].parsed
    for blocks, kinds in itertools.product(space.reachable("blocks"), space.reachable("kinds")):
        assert select(Recipe(blocks=blocks, kinds=kinds), ENCODERS[name]).parameters
    all_kinds = kinds_of(found) == kinds_of(ready())
    assert [line.split(" chooses")[0] for line in lines] == ([] if all_kinds else ["llrd"])
    assert fitted(found, ENCODERS[name]) == (found, [])


def test_what_is_left_are_the_kinds_that_blocks_have() -> None:
    left = {name: kinds_of(fitted(ready(), encoder)[0]) for name, encoder in ENCODERS.items()}
    assert left["native"] == VIT
    assert left["ResNet"] == ["ln+conv", "ln", "conv"]
    assert left["ConvNeXt"][0] == "ln+mlp+conv"
    assert {*"+".join(left["ConvNeXt"]).split("+")} == {"ln", "mlp", "conv"}


def test_a_default_is_what_is_left_of_its_method() -> None:
    """It had a kind, and a method of its own, before the encoder was known."""
    own = {"methods.llrd.default.kinds": "attn", "final.default": True}
    found, _ = fitted(ready(**own), ENCODERS["ResNet"])
    assert kinds_of(found, "llrd_default") == ["ln+conv"]
    assert found.methods["llrd"].default["lr"] == found.methods["llrd_default"].space["lr"]
    assert kinds_of(fitted(ready(**own), ENCODERS["native"])[0], "llrd_default") == ["attn"]


def test_kinds_that_no_block_has_are_refused_still() -> None:
    for kinds in ("attn", {"choice": ["attn", "attn+mlp"]}):
        whole = ready(**{"methods.llrd.space.kinds": kinds})
        found, lines = fitted(whole, ENCODERS["ResNet"])
        assert (found, lines) == (whole, [])
        with pytest.raises(InputError, match=r"methods\.llrd\.space\.kinds: .* hold no parameters"):
            selections_of("llrd", found.methods["llrd"], ENCODERS["ResNet"])
