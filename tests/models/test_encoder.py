"""One ordered list of groups, which is the tower and nothing but the tower."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable

import pytest
import timm as timm_library
import torch
from open_clip.timm_model import TimmModel
from torch import Tensor, nn

from errors import InputError
from models.encoder import FINAL, HEAD, PIXELS, Encoder, LayerGroup, embedding
from models.recipe import KINDS
from models.towers import split_tower
from tests.models.test_exactness import block_of, kind_of
from tests.models.tiny_towers import (
    DEPTH,
    IMAGE,
    TOWERS,
    convnext,
    eva,
    native,
    outputs,
    pixels,
    relative,
    timm,
    tower_name,
)

every_tower = pytest.mark.parametrize("tower", [build() for build in TOWERS.values()], ids=TOWERS)


@every_tower
def test_groups_come_in_order(tower: nn.Module) -> None:
    encoder = split_tower(tower)
    names = [encoder.group(i).name for i in range(len(encoder.groups))]
    assert names == ["stem", *(f"block {i}" for i in range(DEPTH)), "final"]
    assert encoder.depth == DEPTH
    assert encoder.boundaries == (PIXELS, *(f"block {i}" for i in range(DEPTH)), FINAL, HEAD)
    assert [encoder.index(boundary) for boundary in encoder.boundaries] == list(range(DEPTH + 3))


@every_tower
@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float16])
def test_half_precision_rounds_products_and_not_the_residual_stream(
    tower: nn.Module, precision: torch.dtype
) -> None:
    encoder = split_tower(tower)
    blocks = [boundary for boundary in encoder.boundaries if boundary.startswith("block")]
    with torch.autocast("cpu", precision):
        found = encoder.features(pixels(4), blocks)
        trained = encoder.suffix(PIXELS)[0](pixels(4))
    assert {x.dtype for x in (*found.values(), trained)} == {torch.float32}


@every_tower
def test_every_parameter_is_in_exactly_one_group_with_one_kind(tower: nn.Module) -> None:
    encoder = split_tower(tower)
    found = [
        (group.name, kind, parameter, tower_name(tower, group.name, name))
        for group in map(encoder.group, range(len(encoder.groups)))
        for name, kind, parameter in group.parameters_by_kind()
    ]
    theirs = dict(tower.named_parameters())
    assert sorted(name for *_, name in found) == sorted(theirs)
    for group, kind, parameter, name in found:
        assert parameter is theirs[name]
        assert kind == kind_of(name), name
        assert group == {-1: "stem", DEPTH: "final"}.get(block_of(name), f"block {block_of(name)}")


BLOCK_KINDS = {
    "ConvNeXt": 3 * [{"ln", "mlp", "conv"}],
    "ResNet": 3 * [{"ln", "conv"}],
    "Swin": [{"ln", "attn", "mlp"}, {"ln", "attn", "mlp", "conv"}, {"ln", "attn", "mlp"}],
    "FastViT": [{"ln", "mlp", "conv"}, {"ln", "attn", "mlp", "conv"}, {"ln", "attn", "mlp"}],
}


@pytest.mark.parametrize("name", TOWERS)
def test_blocks_have_these_kinds(name: str) -> None:
    encoder = split_tower(TOWERS[name]())
    kinds = [
        {kind for _, kind, _ in encoder.group(i).parameters_by_kind()}
        for i in range(len(encoder.groups))
    ]
    expected = BLOCK_KINDS.get(name.split(",")[0], DEPTH * [{"ln", "attn", "mlp"}])
    assert kinds[1 : 1 + DEPTH] == expected
    assert set().union(*kinds) <= set(KINDS)


@every_tower
def test_groups_in_a_row_are_the_tower(tower: nn.Module) -> None:
    tower = copy.deepcopy(tower)
    encoder = split_tower(tower).double()
    images = pixels(5, dtype=torch.float64)
    with torch.no_grad():
        expected = outputs(tower, images)
        torch.testing.assert_close(encoder(images), embedding(expected), rtol=0, atol=1e-12)
    assert encoder.dim == expected.shape[1]
    assert encoder.shapes[PIXELS] == (3, IMAGE, IMAGE)
    assert encoder.shapes[HEAD] == (encoder.dim,)
    assert tuple(encoder.shapes) == encoder.boundaries


def test_embeddings_have_unit_mean_square() -> None:
    found = embedding(torch.randn(7, 12, dtype=torch.float64) * 100)
    torch.testing.assert_close(found.norm(dim=1), torch.full((7,), math.sqrt(12.0)).double())
    torch.testing.assert_close(found.square().mean(1), torch.ones(7).double())


@every_tower
def test_the_suffix_of_every_boundary_gives_the_towers_embeddings(tower: nn.Module) -> None:
    encoder = split_tower(copy.deepcopy(tower)).double()
    images = pixels(5, dtype=torch.float64)
    for boundary, x in encoder.features(images, encoder.boundaries).items():
        found = nn.Sequential(*encoder.suffix(boundary))(x)
        torch.testing.assert_close(found, encoder(images), rtol=0, atol=1e-12)


@every_tower
def test_a_suffix_is_a_private_copy(tower: nn.Module) -> None:
    encoder = split_tower(tower)
    before = copy.deepcopy(encoder.state_dict())
    x = encoder.features(pixels(3), ["block 1"])["block 1"]
    expected = encoder(pixels(3))
    suffix = encoder.suffix("block 1")
    for group, original in zip(suffix, list(encoder.groups)[2:], strict=True):
        theirs = {parameter.data_ptr() for parameter in original.parameters()}
        assert not theirs & {parameter.data_ptr() for parameter in group.parameters()}
    suffix.train().requires_grad_()
    for group in suffix:
        x = group(x)
    x.sum().backward()
    with torch.no_grad():
        for parameter in suffix.parameters():
            parameter.zero_()
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, before[name]), name
    assert all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    assert not any(module.training for module in encoder.modules())
    assert torch.equal(encoder(pixels(3)), expected)


def test_the_suffix_of_the_head_is_empty_and_that_of_the_pixels_everything() -> None:
    encoder = split_tower(native())
    assert [len(encoder.suffix(boundary)) for boundary in encoder.boundaries] == [5, 4, 3, 2, 1, 0]


@every_tower
def test_pickling_keeps_the_encoder(tower: nn.Module) -> None:
    encoder = split_tower(tower)
    again: Encoder = pickle.loads(pickle.dumps(encoder))
    assert torch.equal(again(pixels(3)), encoder(pixels(3)))
    assert again.boundaries == encoder.boundaries
    assert again.shapes == encoder.shapes


def test_unknown_boundaries_are_refused() -> None:
    encoder = split_tower(native())
    for boundary in ("block 3", "block -1", "stem", ""):
        with pytest.raises(ValueError, match="not in tuple"):
            encoder.index(boundary)


def _of_no_family() -> nn.Module:
    tower = timm("avg")
    tower.trunk = timm_library.create_model("test_efficientnet", num_classes=0)
    return tower


def _no_pooling() -> nn.Module:
    tower = convnext()
    tower.trunk.reset_classifier(0, "")
    tower.head = nn.Identity()
    return tower


def _patch_dropout() -> nn.Module:
    return eva(patch_drop_rate=0.5)


def _learned_rotations() -> nn.Module:
    return eva(rope_type="mixed")


def _one_table_for_all_blocks() -> nn.Module:
    return relative(shared_rel_pos=True)


def _unknown_part() -> nn.Module:
    tower = native()
    tower.transformer.resblocks[1].adapter = nn.Linear(4, 4)
    return tower


@pytest.mark.parametrize(
    ("build", "culprit"),
    [
        (_of_no_family, "image tower EfficientNet cannot be split"),
        (_unknown_part, "adapter.weight"),
        (_no_pooling, r"the shape \(16, 2, 2\)"),
        (_patch_dropout, "rotary positions"),
        (_learned_rotations, "rotary positions"),
        (_one_table_for_all_blocks, "share one table"),
    ],
)
def test_other_towers_are_bad_input(build: Callable[[], nn.Module], culprit: str) -> None:
    with pytest.raises(InputError, match=culprit) as error:
        split_tower(build())
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("model.name: ")


def test_timm_is_really_timms() -> None:
    """The stand-in for `timm.create_model` leaves the rest of the adapter as it is."""
    tower = timm("map", proj="none")
    assert isinstance(tower, TimmModel)
    images: Tensor = pixels(2)
    torch.testing.assert_close(tower(images), tower.trunk(images))


def test_a_chain_of_any_modules_is_an_encoder() -> None:
    def run(part: nn.Module, x: Tensor) -> Tensor:
        out: Tensor = part(x)
        return out

    chain = [
        LayerGroup("stem", nn.Flatten(), run, {}),
        LayerGroup("block 0", nn.Linear(12, 6), run, {"weight": "mlp", "bias": "mlp"}),
        LayerGroup("final", nn.LayerNorm(6), run, {"weight": "ln", "bias": "ln"}),
    ]
    encoder = Encoder(chain, (3, 2, 2))
    assert encoder.shapes == {"pixels": (3, 2, 2), "block 0": (12,), "final": (6,), "head": (6,)}
    block = encoder.group(1)
    assert [kind for _, kind, _ in block.parameters_by_kind()] == ["mlp", "mlp"]
