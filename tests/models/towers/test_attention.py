"""The last block for its class token alone: the tower's own output, from one token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from models.encoder import FINAL, embedding
from models.towers import native as native_family
from models.towers import split_tower, timm_vit
from tests.models.tiny_towers import DEPTH, TOWERS, WIDTH, native, outputs, pixels, stirred, timm

ONE_TOKEN: dict[str, Callable[[], nn.Module]] = {
    "native": native,
    "native, layer scale": TOWERS["native, layer scale"],
    "native, norm after pooling": lambda: native(final_ln_after_pool=True),
    "native, with tokens": lambda: native(output_tokens=True),
    "timm": timm,
    "timm, registers": lambda: timm(reg_tokens=2),
    "timm, all norms": lambda: timm(
        qk_norm=True, scale_attn_norm=True, init_values=0.1, qkv_bias=False, pre_norm=True
    ),
}
ONE_TOKEN |= {name: build for name, build in TOWERS.items() if name.startswith("EVA, token")}
ONE_TOKEN["native, QuickGELU"] = TOWERS["native, QuickGELU"]
ALL_TOKENS = {
    name: build for name, build in TOWERS.items() if name not in (*ONE_TOKEN, "timm, token")
}


def last_block(tower: nn.Module) -> nn.Module:
    blocks = tower.trunk.blocks if hasattr(tower, "trunk") else tower.transformer.resblocks
    block: nn.Module = blocks[-1]
    return block


@pytest.mark.parametrize("name", ONE_TOKEN)
def test_one_token_reaches_final_and_the_output_is_the_towers(name: str) -> None:
    tower = ONE_TOKEN[name]()
    encoder = split_tower(tower)
    assert encoder.shapes[FINAL] == (1, WIDTH)
    # Every token enters the last block: keys and values come from all of them.
    assert encoder.shapes[f"block {DEPTH - 1}"] == encoder.shapes["block 0"]
    assert encoder.shapes["block 0"][0] > 1
    with torch.no_grad():
        expected = embedding(outputs(tower, pixels(5)))
    torch.testing.assert_close(encoder(pixels(5)), expected, rtol=0, atol=1e-5)
    exact, images = encoder.double(), pixels(5, dtype=torch.float64)
    with torch.no_grad():
        expected = embedding(outputs(tower, images))
    torch.testing.assert_close(exact(images), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ALL_TOKENS)
def test_towers_that_read_other_tokens_keep_them(name: str) -> None:
    encoder = split_tower(ALL_TOKENS[name]())
    assert encoder.shapes[FINAL] == encoder.shapes[f"block {DEPTH - 1}"]


class OwnBlock(Block):
    """A block of somebody else's, which may do anything in its forward pass."""


def with_last_block(tower: nn.Module, block: nn.Module) -> nn.Module:
    tower.trunk.blocks[-1] = block
    return stirred(tower)


UNKNOWN: dict[str, Callable[[], nn.Module]] = {
    "gated": lambda: with_gate(timm()),
    "own block": lambda: with_last_block(timm(), OwnBlock(WIDTH, 2, 2.0)),
    "own attention": lambda: with_own_attention(timm()),
    "cross attention": lambda: with_cross_attention(native()),
}


def with_gate(tower: nn.Module) -> nn.Module:
    tower.trunk.blocks[-1].attn.gate = nn.Linear(WIDTH, WIDTH)
    return stirred(tower)


def with_own_attention(tower: nn.Module) -> nn.Module:
    class OwnAttention(Attention):  # type: ignore[misc]
        pass

    tower.trunk.blocks[-1].attn = OwnAttention(WIDTH, 2)
    return tower


def with_cross_attention(tower: nn.Module) -> nn.Module:
    tower.transformer.resblocks[-1].ln_1_kv = nn.LayerNorm(WIDTH)
    return tower


@pytest.mark.parametrize("name", UNKNOWN)
def test_blocks_of_an_unknown_kind_run_as_they_are(name: str) -> None:
    tower = UNKNOWN[name]()
    family = timm_vit if hasattr(tower, "trunk") else native_family
    assert family.class_token_run(tower, last_block(tower)) is None


@pytest.mark.parametrize("name", ["gated", "own block", "own attention"])
def test_such_a_tower_is_still_the_tower(name: str) -> None:
    tower = UNKNOWN[name]()
    encoder = split_tower(tower)
    assert encoder.shapes[FINAL][0] > 1
    with torch.no_grad():
        torch.testing.assert_close(encoder(pixels(3)), embedding(outputs(tower, pixels(3))))


def dropping(**options: Any) -> nn.Module:
    return timm(**options).train()


def class_tokens(tower: nn.Module, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """The class token after the last block, `draws` times: our way, and the block's own."""
    block = last_block(tower)
    run = timm_vit.class_token_run(tower, block)
    assert run is not None
    with torch.no_grad():
        ours = torch.stack([run(block, x)[:, 0] for _ in range(draws)])
        theirs = torch.stack([block(x)[:, 0] for _ in range(draws)])
    return ours, theirs


@pytest.mark.parametrize(
    "options",
    [{"attn_drop_rate": 0.5}, {"proj_drop_rate": 0.5}, {"drop_path_rate": 0.5}],
    ids=lambda options: str(*options),
)
def test_dropout_drops_in_training_as_the_blocks_own_does(options: dict[str, float]) -> None:
    tower = dropping(**options)
    x = split_tower(timm()).features(pixels(2), ["block 2"])["block 2"]
    torch.manual_seed(0)
    last_block(tower).train()
    ours, theirs = class_tokens(tower, x, 300)
    assert ours.std(0).max() > 0.05
    # Other draws of the same distribution: mean and spread agree.
    error = 6 * theirs.std(0) / 300**0.5
    assert ((ours.mean(0) - theirs.mean(0)).abs() <= error + 1e-5).all()
    torch.testing.assert_close(ours.std(0), theirs.std(0), rtol=0.2, atol=0.02)
    last_block(tower).eval()
    ours, theirs = class_tokens(tower, x, 2)
    assert torch.equal(ours[0], ours[1])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


class BatchedProducts(TorchDispatchMode):
    """Notes the shapes of what batches of matrices are multiplied with."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.bmm.default:
            self.shapes += [tuple(each.shape[1:]) for each in args[:2]]
        return func(*args, **(kwargs or {}))


def test_weights_without_gradient_are_not_copied_for_every_token() -> None:
    """As torch's `MultiheadAttention` does where only the norms are trained."""
    tower = native().requires_grad_(False)
    block = tower.transformer.resblocks[0]
    block.ln_1.requires_grad_()
    group = split_tower(tower).group(1)
    block.ln_1.requires_grad_()
    x = torch.randn(4, 5, WIDTH)
    for run, copied in ((group, False), (block, True)):
        with BatchedProducts() as products:
            torch.autograd.backward(run(x).sum())
        assert ((WIDTH, 3 * WIDTH) in products.shapes) == copied
