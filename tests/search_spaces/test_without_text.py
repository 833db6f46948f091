"""Methods for an encoder without a text tower: what needs one is refused, or falls back."""

from __future__ import annotations

from typing import Any

import pytest

from errors import InputError
from search_spaces import Experiment, load_experiment
from search_spaces.extending import READY
from tune.request import encoder_keys


def loaded(*methods: str, **overrides: Any) -> Experiment:
    model = {"model.name": "timm:test_vit", "model.pretrained": None}
    digits = READY / "digits_all.yaml"
    return load_experiment(digits, overrides={**model, **overrides}, methods=methods)


def test_the_probe_is_pulled_to_zero_alone() -> None:
    found = loaded("frozen", "llrd")
    assert found.methods["frozen"].space["anchor"] == 0
    assert not found.needs_zero_shot
    assert Experiment.model_validate(found.resolved()) == found
    clip = load_experiment(READY / "digits.yaml", methods=["frozen"])
    assert clip.methods["frozen"].space["anchor"] == {"bank": [0, 0.3, 1]}


def test_a_method_that_needs_a_text_tower_is_refused_in_a_line() -> None:
    with pytest.raises(InputError) as error:
        loaded()
    assert str(error.value).endswith(
        "digits_all.yaml: methods.zero_shot: uses a text tower, and timm:test_vit has none; "
        "allowed: --methods frozen,frozen_zeros,llrd,layer_norm,seed_llrd"
    )
    with pytest.raises(InputError, match=r"methods\.zero_shot: uses a text tower.*another method"):
        loaded("zero_shot")
    with pytest.raises(InputError, match=r"methods\.frozen: uses a text tower"):
        loaded("frozen", **{"methods.frozen.space.anchor": {"bank": [0.3, 1]}})


def test_methods_that_nobody_chose_are_left_out() -> None:
    def names(*methods: str) -> set[str]:
        source = {"data.source": "folder:photos", "name": "photos"}
        overrides = {"model.name": "timm:test_vit", "model.pretrained": None}
        space = READY / "folder.yaml"
        return {*load_experiment(space, (), overrides, None, methods, source).methods}

    assert names() >= {"frozen", "llrd"}
    assert not names() & {"zero_shot", "gda"}
    with pytest.raises(InputError, match=r"methods\.zero_shot: uses a text tower"):
        names("zero_shot", "frozen")


def test_of_several_encoders_each_has_the_methods_that_it_can_have() -> None:
    models = {"clip": {"name": "ViT-B-32", "pretrained": "openai"}, "dino": {"name": "timm:dino"}}
    whole = load_experiment(READY / "digits_all.yaml", overrides={"models": models})
    rows = {name: [str(p) for p in whole.data.partitions] for name in ("llrd", "layer_norm")}
    clip, dino = whole.of_encoder("clip", rows), whole.of_encoder("dino", rows)
    assert {*clip.methods} - {*dino.methods} == {"zero_shot"}
    assert not dino.needs_zero_shot


def test_names_on_the_command_line() -> None:
    def keys(name: str, pretrained: str | None) -> dict[str, str | None]:
        return {"model.name": name, "model.pretrained": pretrained}

    assert encoder_keys("timm:vit.tag") == keys("timm:vit.tag", None)
    assert encoder_keys("timm:vit:w.pth") == keys("timm:vit", "w.pth")
    assert encoder_keys("timm:local-dir:/a") == keys("timm:local-dir:/a", None)
    assert encoder_keys("hf-hub:me/it") == keys("hf-hub:me/it", None)


@pytest.mark.parametrize("anchor", [None, {"bank": [0.3, 1]}])
def test_one_of_several_encoders_that_no_method_suits_is_refused_at_once(anchor: Any) -> None:
    models = {"clip": {"name": "ViT-B-32", "pretrained": "openai"}, "dino": {"name": "timm:dino"}}
    overrides: dict[str, Any] = {"models": models}
    methods = ["zero_shot"]
    if anchor:
        methods = ["frozen", "llrd"]
        overrides["methods.frozen.space.anchor"] = anchor
    with pytest.raises(InputError, match=r"models\.dino: timm:dino has no text tower; without"):
        load_experiment(READY / "digits.yaml", overrides=overrides, methods=methods)
