"""The central claim: a suffix trained from cached features is the whole tower trained.

The reference is open_clip's own tower, called on pixels, frozen by names of its own parameters,
under `torch.optim.AdamW`. It shares no code with `models/` but the order of the samples.
"""

from __future__ import annotations

import copy
import itertools
import math
import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.encoder import HEAD, PIXELS, Encoder
from models.feature_dataset import ShuffleStream
from models.fit import Fit
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from tests.models.tiny_towers import DEPTH, TOWERS, at, outputs, pixels, tower_name

N, CLASSES, BATCH, STEPS, SEED = 24, 4, 8, 20, 3
LABELS = np.arange(N) % CLASSES
LR, HEAD_LR, DECAY, LLRD, WARMUP, SMOOTHING = 3e-3, 1e-2, 0.1, 0.7, 0.25, 0.1
KINDS = [
    "+".join(kinds) for n in (1, 2, 3) for kinds in itertools.combinations(("ln", "attn", "mlp"), n)
]


def recipe(blocks: str, kinds: str) -> Recipe:
    return Recipe(
        blocks=blocks,
        kinds=kinds,
        lr=LR,
        head_lr=HEAD_LR,
        weight_decay=DECAY,
        llrd_decay=LLRD,
        warmup=WARMUP,
        label_smoothing=SMOOTHING,
        batch_size=BATCH,
    )


def block_of(name: str) -> int:
    """Where a parameter of open_clip's sits: -1 the stem, 0 … the blocks, DEPTH the rest."""
    if found := re.match(r"(?:transformer\.resblocks|trunk\.blocks)\.(\d+)\.", name):
        return int(found[1])
    if found := re.match(r"(?:trunk\.)?layer(\d)\.(\d)\.", name):
        return int(found[1]) - 1 + int(found[2])  # the stages are of one block and of two
    if found := re.match(r"trunk\.(?:stages|layers)\.(\d)\.(?:blocks\.(\d)\.)?", name):
        return int(found[1]) + int(found[2] or 0)
    final = r"ln_post|proj$|attn_?pool|head\.|trunk\.(norm|fc_norm|attn_pool|final_conv|head\w*)\."
    return DEPTH if re.match(final, name) else -1


NORMS = (
    r"(^|\.)(ln\w*|norm\d?|norm_pre|fc_norm|[qk]_norm|bn\d?|grn|identity)\.(weight|bias)$"
    r"|^trunk\.stem\.1\.\w+$|stages\.\d\.downsample\.0\.|^layer\d\.\d\.downsample\.1\."
    r"|^trunk\.(conv1\.[14]|layer\d\.\d\.downsample\.2)\."
)


def kind_of(name: str) -> str:
    """By open_clip's and timm's own names."""
    if re.search(NORMS, name):
        return "ln"
    if block_of(name) == -1:
        return "embed"
    if block_of(name) == DEPTH and re.search(r"(pool|attnpool)\.c?_?proj\.", name):
        return "attn" if "trunk.attn_pool" in name else "proj"
    if re.search(r"attn|\.ls_?1\.|gamma_1|layer_scale_1|token_mixer\.(qkv|proj)|head\.pool", name):
        return "attn"
    if re.search(r"downsample|conv_dw|pos_emb\.|token_mixer|final_conv|layer\d", name):
        return "conv"
    return "mlp" if block_of(name) < DEPTH else "proj"


def is_decayed(name: str, parameter: Tensor) -> bool:
    tables = r"pos_embed|positional|cls_token|reg_token|relative_position|gamma$"
    return parameter.ndim >= 2 and not re.search(tables, name)


@dataclass
class Reference:
    """The slow way: every image through the whole tower at every step."""

    tower: nn.Module
    head: nn.Linear
    encoder_optimizer: torch.optim.Optimizer
    head_optimizer: torch.optim.Optimizer

    @classmethod
    def of(
        cls, tower: nn.Module, first: int, last: int, kinds: str, dtype: torch.dtype
    ) -> Reference:
        tower = copy.deepcopy(tower).to(dtype).eval().requires_grad_(False)
        groups = []
        for name, parameter in tower.named_parameters():
            block = block_of(name)
            chosen = first <= block <= last or (block == DEPTH and last == DEPTH - 1)
            if chosen and kind_of(name) in kinds.split("+"):
                parameter.requires_grad_()
                rate = LR * LLRD ** max(0, DEPTH - 1 - block)
                decay = DECAY if is_decayed(name, parameter) else 0.0
                groups.append({"params": [parameter], "peak": rate, "weight_decay": decay})
        head = nn.Linear(outputs(tower, pixels(1, dtype=dtype)).shape[1], CLASSES, dtype=dtype)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        head_groups = [
            {"params": [head.weight], "peak": HEAD_LR, "weight_decay": DECAY},
            {"params": [head.bias], "peak": HEAD_LR, "weight_decay": 0.0},
        ]
        return cls(tower, head, torch.optim.AdamW(groups), torch.optim.AdamW(head_groups))

    def trained(self) -> list[nn.Parameter]:
        return [p for p in self.tower.parameters() if p.requires_grad]

    def pull(self, start: list[Tensor], strength: float) -> None:
        """Step down the gradient of the penalty on the distance from the start, at every rate."""
        trained = [*self.trained(), *self.head.parameters()]
        away = [(p - s).square().sum() for p, s in zip(trained, start, strict=True)]
        gradients = torch.autograd.grad(0.5 * strength * torch.stack(away).sum(), trained)
        rates = {
            parameter: group["lr"]
            for optimizer in (self.encoder_optimizer, self.head_optimizer)
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        with torch.no_grad():
            for parameter, gradient in zip(trained, gradients, strict=True):
                parameter.sub_(rates[parameter] * gradient)

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        embedded = F.normalize(outputs(self.tower, images), dim=-1) * math.sqrt(
            self.head.in_features
        )
        return F.cross_entropy(self.head(embedded), labels, label_smoothing=SMOOTHING)

    def run(self, images: Tensor, labels: Tensor, steps: int, pull: float = 0.0) -> list[float]:
        order, losses = ShuffleStream(N, SEED), []
        start = [p.detach().clone() for p in (*self.trained(), *self.head.parameters())]
        warm = WARMUP * steps
        for step in range(steps):
            positions = torch.from_numpy(order.take(step * BATCH, BATCH))
            loss = self.loss(images[positions], labels[positions])
            loss.backward()
            nn.utils.clip_grad_norm_(self.trained(), 1.0)
            if step < warm:
                factor = (step + 1) / warm
            else:
                factor = (1 + math.cos(math.pi * (step - warm) / (steps - warm))) / 2
            for optimizer in (self.encoder_optimizer, self.head_optimizer):
                for group in optimizer.param_groups:
                    group["lr"] = factor * group["peak"]
            if pull:
                self.pull(start, pull)
            for optimizer in (self.encoder_optimizer, self.head_optimizer):
                optimizer.step()
                optimizer.zero_grad()
            losses.append(loss.item())
        return losses


def new_fit(encoder: Encoder, settings: Recipe, boundary: str, images: Tensor) -> Fit:
    data = at(encoder, boundary, images, LABELS)
    return Fit(
        encoder,
        select(settings, encoder),
        boundary,
        data,
        data,
        classes=CLASSES,
        horizon=STEPS * BATCH,
        seed=SEED,
        dtype=images.dtype,
    )


def named_weights(fit: Fit, tower: nn.Module) -> dict[str, nn.Parameter]:
    """Every weight of the fit's suffix, by open_clip's name for it."""
    return {
        tower_name(tower, group.name, name): parameter
        for group in fit.model.groups
        for name, parameter in group.named_parameters()
    }


@pytest.mark.parametrize("pull", [0.01, 3.0])
@pytest.mark.parametrize("name", ["native", "timm, token"])
@pytest.mark.parametrize(
    ("blocks", "first", "last", "kinds"),
    [("2-1", 1, 2, "ln+attn+mlp"), ("final", DEPTH, DEPTH, "ln+proj")],
)
def test_a_pull_to_the_start_is_a_step_down_its_penalty(
    name: str, pull: float, blocks: str, first: int, last: int, kinds: str
) -> None:
    tower, images = TOWERS[name](), pixels(N, dtype=torch.float64)
    reference = Reference.of(tower, first, last, kinds, torch.float64)
    expected = reference.run(images, torch.from_numpy(LABELS), STEPS, pull)
    settings = recipe(blocks, kinds).model_copy(update={"pull_to_start": pull})
    encoder = split_tower(tower).double()
    fit = new_fit(encoder, settings, select(settings, encoder).boundary, images)
    losses = [fit.step().item() for _ in range(STEPS)]
    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-9)
    final = dict(reference.tower.named_parameters())
    for key, weight in named_weights(fit, tower).items():
        torch.testing.assert_close(weight.detach(), final[key].detach(), rtol=0, atol=1e-9)


# Every tower with all kinds; every combination of kinds on a native and a timm tower, and on one
# with attention pooling.
CONVOLUTIONAL = ("ConvNeXt", "Swin", "FastViT", "ResNet", "ResNet, timm")
CASES = [
    *((tower, "2-1", kinds) for tower in ("native", "timm, token", "timm, map") for kinds in KINDS),
    *((tower, "2-1", "ln+attn+mlp") for tower in TOWERS),
    *((tower, "all", "ln+attn+mlp+conv+embed+proj") for tower in TOWERS),
    *((tower, "2-1", "conv") for tower in CONVOLUTIONAL),
    *((tower, "1", "ln+attn+mlp") for tower in ("native", "timm, map")),
    *((tower, "all", "ln+mlp") for tower in ("native", "timm, map")),
]


@pytest.mark.parametrize(("name", "blocks", "kinds"), list(dict.fromkeys(CASES)))
def test_steps_from_features_are_steps_from_pixels(name: str, blocks: str, kinds: str) -> None:
    tower = TOWERS[name]()
    first, last = {"2-1": (1, 2), "1": (1, 1), "all": (-1, DEPTH - 1)}[blocks]
    images = pixels(N, dtype=torch.float64)
    encoder = split_tower(tower)  # which may add a projection
    reference = Reference.of(tower, first, last, kinds, torch.float64)
    expected = reference.run(images, torch.from_numpy(LABELS), STEPS)

    settings, encoder = recipe(blocks, kinds), encoder.double()
    boundary = select(settings, encoder).boundary
    trained = {key for key, p in reference.tower.named_parameters() if p.requires_grad}
    assert encoder.index(boundary) == 1 + min(map(block_of, trained))
    fit = new_fit(encoder, settings, boundary, images)
    began = {key: p.detach().clone() for key, p in named_weights(fit, tower).items()}
    losses = [fit.step().item() for _ in range(STEPS)]

    np.testing.assert_allclose(losses, expected, rtol=0, atol=1e-9)
    final = dict(reference.tower.named_parameters())
    moved = set()
    for key, weight in named_weights(fit, tower).items():
        torch.testing.assert_close(weight.detach(), final[key].detach(), rtol=0, atol=1e-9)
        if not torch.equal(weight, began[key]):
            moved.add(key)
    head = fit.model.head.head(0)
    torch.testing.assert_close(head.weight, reference.head.weight.detach(), rtol=0, atol=1e-9)
    torch.testing.assert_close(head.bias, reference.head.bias.detach(), rtol=0, atol=1e-9)
    # Of what is trained nothing was left out, and nothing else moved. (The last block's relative
    # positions have no say where only the class token is asked.)
    start = dict(tower.named_parameters())
    assert moved == {key for key in trained if not torch.equal(final[key], start[key])}
    assert all("rel_pos" in key for key in trained - moved)
    assert min(losses) < losses[0]


@pytest.mark.parametrize("name", ["native", "native, CoCa", "timm, token", "timm, map"])
def test_gradients_agree_in_float32(name: str) -> None:
    tower = TOWERS[name]()
    images = pixels(N)
    encoder = split_tower(tower)
    reference = Reference.of(tower, 1, DEPTH - 1, "ln+attn+mlp", torch.float32)
    # A head at zero would send no gradient down.
    start = torch.randn(reference.head.weight.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        reference.head.weight.copy_(start)
    settings = recipe("2-1", "ln+attn+mlp")
    fit = new_fit(encoder, settings, select(settings, encoder).boundary, images)
    with torch.no_grad():
        fit.model.head.weight.copy_(start[None])

    found: dict[str, Tensor] = {}
    weights = {key: p for key, p in named_weights(fit, tower).items() if p.requires_grad}
    for key, parameter in weights.items():
        parameter.register_hook(lambda grad, key=key: found.__setitem__(key, grad.clone()))
    loss = fit.step()
    positions = torch.from_numpy(ShuffleStream(N, SEED).take(0, BATCH))
    expected = reference.loss(images[positions], torch.from_numpy(LABELS)[positions])
    expected.backward()

    torch.testing.assert_close(loss.squeeze(), expected.detach(), rtol=1e-5, atol=0)
    gradients = {key: p.grad for key, p in reference.tower.named_parameters() if p.requires_grad}
    assert found.keys() == gradients.keys()
    size = math.sqrt(sum(grad.square().sum().item() for grad in gradients.values()))
    assert size > 1e-2
    for key, grad in gradients.items():
        assert (found[key] - grad).norm() <= 1e-4 * size, key


@pytest.mark.parametrize("name", ["native", "timm, map"])
@pytest.mark.parametrize("boundary", [PIXELS, "block 0", "block 1"])
def test_a_lower_boundary_gives_the_same_fit(name: str, boundary: str) -> None:
    tower = TOWERS[name]()
    encoder = split_tower(tower).double()
    images = pixels(N, dtype=torch.float64)
    settings = recipe("2", "ln+attn+mlp")
    own, lower = (new_fit(encoder, settings, start, images) for start in ("block 2", boundary))
    losses = [[fit.step().item() for _ in range(STEPS)] for fit in (own, lower)]
    np.testing.assert_allclose(*losses, rtol=0, atol=1e-12)
    below = named_weights(lower, tower)
    for key, weight in named_weights(own, tower).items():
        torch.testing.assert_close(weight, below[key], rtol=0, atol=1e-12)
    held_out = at(encoder, "block 2", pixels(9, 5, torch.float64), np.zeros(9, np.int64))
    held_out_below = at(encoder, boundary, pixels(9, 5, torch.float64), np.zeros(9, np.int64))
    torch.testing.assert_close(own.logits(held_out), lower.logits(held_out_below))


def test_a_probe_is_the_same_from_any_boundary() -> None:
    encoder = split_tower(TOWERS["native"]()).double()
    images = pixels(N, dtype=torch.float64)
    probe = recipe("none", "ln")
    fits = [new_fit(encoder, probe, boundary, images) for boundary in encoder.boundaries]
    losses = np.array([[fit.step().item() for _ in range(STEPS)] for fit in fits])
    np.testing.assert_allclose(losses, np.broadcast_to(losses[-1], losses.shape), atol=1e-12)


@pytest.mark.parametrize("name", TOWERS)
def test_features_of_one_pass_are_those_of_many(name: str) -> None:
    encoder = split_tower(TOWERS[name]())
    images = pixels(5)
    together = encoder.features(images, encoder.boundaries)
    assert list(together) == list(encoder.boundaries)
    for boundary in encoder.boundaries:
        alone = encoder.features(images, [boundary])
        assert list(alone) == [boundary]
        assert torch.equal(alone[boundary], together[boundary])
        assert tuple(alone[boundary].shape[1:]) == encoder.shapes[boundary]
        assert not alone[boundary].requires_grad
    assert torch.equal(together[PIXELS], images)
    assert torch.equal(together[HEAD], encoder(images))


@pytest.mark.parametrize("name", ["native", "timm, map"])
def test_nothing_below_the_cached_boundary_is_run(name: str) -> None:
    tower = TOWERS[name]()
    encoder = split_tower(tower)
    images = pixels(N)
    ran: list[str] = []
    settings = recipe("2", "ln+attn+mlp")
    data = {boundary: at(encoder, boundary, images, LABELS) for boundary in ("block 1", "block 2")}
    for module_name, module in tower.named_modules():
        module.register_forward_pre_hook(lambda *_, name=module_name: ran.append(name))
    for boundary, cached in data.items():
        ran.clear()
        numbers: Any = {"classes": 4, "horizon": 64, "seed": 0}
        fit = Fit(encoder, select(settings, encoder), boundary, *(cached, cached), **numbers)
        fit.train_until(16)
        blocks = {block_of(f"{module}.") for module in ran}
        # The copies keep the hooks: what ran are they, and only from the boundary up.
        assert blocks == set(range(int(boundary[-1]), DEPTH + 1))
        assert [group.name for group in fit.model.groups] == [
            *(f"block {i}" for i in range(int(boundary[-1]), DEPTH)),
            "final",
        ]


def test_a_boundary_above_what_is_trained_is_refused() -> None:
    encoder = split_tower(TOWERS["native"]())
    with pytest.raises(ValueError, match="below block 2"):
        new_fit(encoder, recipe("1", "ln"), "block 2", pixels(N))
