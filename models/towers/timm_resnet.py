"""timm's ResNets inside open_clip's adapter."""

from __future__ import annotations

from open_clip.timm_model import TimmModel
from timm.models.resnet import ResNet as Trunk
from torch import Tensor, nn

from models.encoder import LayerGroup
from models.towers.base import Rules, chain, part_of, run_module
from models.towers.timm_trunk import POOL, TimmFamily, final_of

STEM = ("conv1", "bn1", "act1", "maxpool")
STAGES = ("layer1", "layer2", "layer3", "layer4")
KINDS: Rules = (*POOL, (r"^se\.", "conv"))  # what weighs channels


class TimmResNet(TimmFamily):
    """Towers whose trunk is timm's `ResNet`: ResNeXt, SE-ResNet and wide ones too.

    A block is a residual one of convolutions (`conv`) with their BatchNorms (`ln`), and the
    convolution beside them that leads into a stage. Features are maps (n, channels, height, width).
    """

    name = "ResNet of timm"
    trunk = Trunk

    def groups(self, tower: nn.Module) -> list[LayerGroup]:
        """Split the tower; see `TowerFamily.groups`."""
        assert isinstance(tower, TimmModel)
        stem = part_of(tower.trunk, only={*STEM})
        blocks = [block for stage in STAGES for block in getattr(tower.trunk, stage)]
        final = final_of(tower, names=("global_pool", "fc"))
        return chain((stem, _run_stem), blocks, final, run_module, rules=KINDS)


def _run_stem(trunk: nn.Module, x: Tensor) -> Tensor:
    for name in STEM:
        x = getattr(trunk, name)(x)
    return x
