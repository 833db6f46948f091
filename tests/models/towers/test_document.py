"""Every image tower that open_clip lists, and the document of them."""

from __future__ import annotations

import open_clip
import pytest
import torch

from models.encoder import FINAL, HEAD
from models.recipe import KINDS
from models.towers import TOWERS, split_tower
from models.towers.document import FILE, Listed, listed, written
from tests.models.test_exactness import is_decayed


@pytest.fixture(scope="module")
def towers() -> list[Listed]:
    return list(listed())


def test_the_file_is_what_its_module_writes(towers: list[Listed]) -> None:
    """Else: python -m models.towers.document."""
    assert FILE.read_text(encoding="utf-8") == written(towers)
    assert [one.name for one in towers] == open_clip.list_models()
    assert all(family.name in written(towers) for family in TOWERS)


def test_groups_hold_every_parameter_once(towers: list[Listed]) -> None:
    for one in towers:
        found = [
            (parameter, group.uses_weight_decay(name), kind)
            for group in one.groups
            for name, kind, parameter in group.parameters_by_kind()
        ]
        theirs = {id(parameter): name for name, parameter in one.tower.named_parameters()}
        assert sorted(theirs) == sorted(id(parameter) for parameter, *_ in found), one.name
        for parameter, decays, kind in found:
            assert kind in KINDS
            assert decays <= is_decayed(theirs[id(parameter)], parameter), theirs[id(parameter)]


def test_groups_fit_onto_each_other(towers: list[Listed]) -> None:
    """Of one tower for each family and number of blocks."""
    for one in {(one.family.name, one.depth): one for one in towers}.values():
        with torch.device("meta"):
            encoder = split_tower(one.tower)
        assert encoder.depth == one.depth >= 12
        assert encoder.shapes[HEAD] == (encoder.dim,)
        inputs = [encoder.shapes[f"block {i}"] for i in range(one.depth)]
        staged = one.family.name.startswith(("ConvNeXt", "ResNet", "FastViT", "Swin"))
        assert (len({*inputs, encoder.shapes[FINAL]}) > 3) == staged, one.name
