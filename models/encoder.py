"""An image tower as one ordered list of layer groups.

    stem, block 0 … block L-1, final (norm, pooling, projection)

This list is the only thing in the project that knows what a block is: it drives freezing,
layer-wise learning-rate decay, the boundary a trial starts from, and the counting of parameters.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Sequence

import torch
import torch.nn.functional as F
from open_clip.timm_model import TimmModel
from open_clip.transformer import VisionTransformer as NativeViT
from timm.models.vision_transformer import VisionTransformer as TimmViT
from torch import Tensor, nn

from errors import InputError
from models.towers.class_token import Run, class_token_run, is_native_block, native_block

PIXELS, FINAL, HEAD = "pixels", "final", "head"  # boundaries; the others are "block i"


class LayerGroup(nn.Module):
    """One link of the chain: a part of the tower and the way to run it.

    Args:
        name: "stem", "block 3", "final".
        part: the modules and parameters this group owns.
        run: what the tower does with them, `run(part, x) -> x`.
        kinds: the kind of every parameter of `part`, by its name in it.
    """

    def __init__(
        self,
        name: str,
        part: nn.Module,
        run: Run,
        kinds: dict[str, str],
    ) -> None:
        super().__init__()
        self.name = name
        self.part = part
        self.kinds = kinds
        self._run = run

    def forward(self, x: Tensor) -> Tensor:
        return self._run(self.part, x)

    def parameters_by_kind(self) -> Iterator[tuple[str, str, nn.Parameter]]:
        """Yields (name, kind, parameter), names as in `named_parameters`."""
        for name, parameter in self.named_parameters():
            yield name, self.kinds[name.removeprefix("part.")], parameter


class Encoder(nn.Module):
    """Layer groups from pixels to *the embedding*.

    The embedding is the tower's projected output, L2-normalised and scaled by sqrt(d): its
    entries have unit mean square, so that learning rates and weight decays of a linear head mean
    the same for every encoder. Probes, zero-shot heads and interpolation all use this one.

    Boundary i is the input of group i: "pixels" (0), "block 0" (1) … "final" (L+1), and the
    embedding itself is the last boundary, "head" (L+2).
    """

    def __init__(self, groups: Sequence[LayerGroup], image_size: tuple[int, int]) -> None:
        super().__init__()
        self.groups = nn.ModuleList(groups)
        self.eval().requires_grad_(False)
        blank = torch.zeros(1, 3, *image_size)
        crossed = self.features(blank, self.boundaries)
        self.shapes = {boundary: tuple(x.shape[1:]) for boundary, x in crossed.items()}
        """The shape of one image's features at each boundary."""

    @property
    def dim(self) -> int:
        """Width of the embedding, d."""
        return self.shapes[HEAD][0]

    @property
    def depth(self) -> int:
        """The number of blocks, L."""
        return len(self.groups) - 2

    def group(self, index: int) -> LayerGroup:
        group = self.groups[index]
        assert isinstance(group, LayerGroup)
        return group

    @property
    def boundaries(self) -> tuple[str, ...]:
        """Every boundary in order, from "pixels" to "head"."""
        blocks = tuple(f"block {i}" for i in range(self.depth))
        return (PIXELS, *blocks, FINAL, HEAD)

    def index(self, boundary: str) -> int:
        """The position of `boundary`; raises ValueError for an unknown one."""
        return self.boundaries.index(boundary)

    def forward(self, x: Tensor) -> Tensor:
        """Pixels (n, 3, height, width) to embeddings (n, d)."""
        for group in self.groups:
            x = group(x)
        return x

    @torch.no_grad()
    def features(self, pixels: Tensor, boundaries: Iterable[str]) -> dict[str, Tensor]:
        """What crosses each of `boundaries`, in one pass over `pixels` (n, 3, height, width)."""
        wanted = sorted({self.index(boundary) for boundary in boundaries})
        x, crossed = pixels, {}
        for i in range(wanted[-1] + 1):
            if i in wanted:
                crossed[self.boundaries[i]] = x
            if i < wanted[-1]:
                x = self.groups[i](x)
        return crossed

    def suffix(self, boundary: str) -> nn.ModuleList:
        """A private copy of the groups above `boundary`, to be trained."""
        return nn.ModuleList(copy.deepcopy(group) for group in self.groups[self.index(boundary) :])

    def count(self) -> dict[str, dict[str, int]]:
        """Parameters by group name and kind."""
        counts: dict[str, dict[str, int]] = {}
        for i in range(len(self.groups)):
            group = self.group(i)
            by_kind = counts.setdefault(group.name, {})
            for _, kind, parameter in group.parameters_by_kind():
                by_kind[kind] = by_kind.get(kind, 0) + parameter.numel()
        return counts


def embedding(projected: Tensor) -> Tensor:
    """Projected outputs (n, d) as embeddings: length sqrt(d)."""
    return F.normalize(projected, dim=-1) * math.sqrt(projected.shape[-1])


def layer_groups(tower: nn.Module) -> Encoder:
    """Split an open_clip image tower; its parameters are shared with the encoder, not copied.

    Raises:
        InputError: the tower is neither open_clip's own ViT nor a timm `VisionTransformer`.
    """
    if isinstance(tower, NativeViT):
        return Encoder(_native(tower), tower.image_size)
    if isinstance(tower, TimmModel) and isinstance(tower.trunk, TimmViT):
        return Encoder(_timm(tower), tower.image_size)
    inner = getattr(tower, "trunk", tower)
    raise InputError(
        f"model.name: image tower {type(inner).__name__} cannot be split into blocks; "
        "allowed: open_clip's own ViTs and timm's VisionTransformer"
    )


def _native(tower: NativeViT) -> list[LayerGroup]:
    block_names = {"transformer"}
    final_names = {"ln_post", "proj", "attn_pool", "attn_pool_contrastive"}
    stem = _part(tower, without=block_names | final_names)
    final = _part(tower, only=final_names)
    run_block = _run_block if tower.transformer.batch_first else _run_block_sequence_first
    if all(is_native_block(block) for block in tower.transformer.resblocks):
        run_block = native_block
    return [
        LayerGroup("stem", stem, _native_stem, _kinds(stem, "embed")),
        *_blocks(tower, tower.transformer.resblocks, run_block),
        LayerGroup("final", final, _native_final, _kinds(final, "proj")),
    ]


def _timm(tower: TimmModel) -> list[LayerGroup]:
    trunk = tower.trunk
    final_names = {"norm", "fc_norm", "attn_pool", "head", "head_drop"}
    stem = _part(trunk, without=final_names | {"blocks"})
    pooling = _part(trunk, only=final_names)
    final = nn.ModuleDict({"trunk": pooling, "head": tower.head})
    return [
        LayerGroup("stem", stem, _timm_stem, _kinds(stem, "embed")),
        *_blocks(tower, trunk.blocks, _run_block),
        LayerGroup("final", final, _timm_final, _kinds(final, "proj")),
    ]


def _part(tower: nn.Module, only: set[str] | None = None, without: Iterable[str] = ()) -> nn.Module:
    """A shallow copy of `tower` that owns only some of its children and parameters.

    The tower's own methods still run on it, so nothing of its forward pass is written again here.
    """

    def kept(name: str) -> bool:
        return name not in without and (only is None or name in only)

    part = copy.copy(tower)
    for store in ("_modules", "_parameters", "_buffers"):
        children = getattr(tower, store)
        # None stays: the tower asks `if self.attn_pool is not None`.
        owned = {name: child for name, child in children.items() if child is None or kept(name)}
        part.__dict__[store] = owned
    return part


def _blocks(tower: nn.Module, blocks: Sequence[nn.Module], run: Run) -> Iterator[LayerGroup]:
    for i, block in enumerate(blocks):
        if i == len(blocks) - 1:
            run = class_token_run(tower, block) or run
        yield LayerGroup(f"block {i}", block, run, _kinds(block, None))


def _run_block(block: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = block(x)
    return out


def _run_block_sequence_first(block: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = block(x.transpose(0, 1)).transpose(0, 1)
    return out


def _native_stem(tower: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = tower._embeds(x)  # type: ignore[operator]
    return out


def _native_final(tower: nn.Module, x: Tensor) -> Tensor:
    pooled, _ = tower._pool(x)  # type: ignore[operator]
    return embedding(pooled if tower.proj is None else pooled @ tower.proj)


def _timm_stem(trunk: nn.Module, x: Tensor) -> Tensor:
    x = trunk._pos_embed(trunk.patch_embed(x))  # type: ignore[operator]
    out: Tensor = trunk.norm_pre(trunk.patch_drop(x))  # type: ignore[operator]
    return out


def _timm_final(final: nn.Module, x: Tensor) -> Tensor:
    trunk, head = final["trunk"], final["head"]  # type: ignore[index]
    return embedding(head(trunk.forward_head(trunk.norm(x))))


def _kinds(part: nn.Module, default: str | None) -> dict[str, str]:
    """The kind of every parameter of `part`; `default` for what no rule below names."""
    kinds = {}
    for name, _ in part.named_parameters():
        owner = part.get_submodule(name.rpartition(".")[0])
        kind = default
        if "norm" in type(owner).__name__.lower():
            kind = "ln"
        elif any("attn" in piece for piece in name.split(".")[:-1]) or name.startswith(
            ("ls_1", "ls1", "gamma_1")
        ):
            kind = "attn"  # a layer scale belongs to the branch it scales
        elif "mlp" in name or name.startswith(("ls_2", "ls2", "gamma_2")):
            kind = "mlp" if default is None else default
        if kind is None:
            raise InputError(
                f"model.name: parameter {name} of {type(part).__name__} is neither "
                "LayerNorm, attention nor MLP; this block is not supported"
            )
        kinds[name] = kind
    return kinds
