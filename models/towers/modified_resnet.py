"""open_clip's own ResNets, with an attention pool, as CLIP's RN50 is."""

from __future__ import annotations

from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn

from models.encoder import LayerGroup, embedding
from models.towers.base import Rules, TowerFamily, chain, part_of, run_module

STAGES = ("layer1", "layer2", "layer3", "layer4")
POOL = "attnpool"
KINDS: Rules = ((r"^attnpool\.c_proj\.", "proj"),)


class ResNet(TowerFamily):
    """Towers of open_clip's `ModifiedResNet`.

    A block is a bottleneck of three convolutions (`conv`) with their BatchNorms (`ln`), and the
    convolution beside them that leads into a stage. The last matrix of the attention pool is the
    projection. Features are maps (n, channels, height, width).
    """

    name = "ResNet of open_clip"

    def matches(self, tower: nn.Module) -> bool:
        """Say whether `tower` is a `ModifiedResNet` of open_clip."""
        return isinstance(tower, ModifiedResNet)

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`."""
        assert isinstance(tower, ModifiedResNet)
        stem, final = part_of(tower, without={*STAGES, POOL}), part_of(tower, only={POOL})
        blocks = [block for stage in STAGES for block in getattr(tower, stage)]
        return chain((stem, _run_stem), blocks, (final, _run_final), run_module, rules=KINDS)


def _run_stem(tower: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = tower.stem(x)  # type: ignore[operator]
    return out


def _run_final(tower: nn.Module, x: Tensor) -> Tensor:
    return embedding(tower.attnpool(x))  # type: ignore[operator]
