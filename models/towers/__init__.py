"""The families of image towers that can be split into layer groups.

To add one, write a `TowerFamily` in a file of its own beside this one, and append it to `TOWERS`.
"""

from __future__ import annotations

from typing import Any

from errors import InputError
from models.encoder import HEAD, Encoder
from models.towers.base import TowerFamily
from models.towers.convnext import ConvNeXt
from models.towers.eva import Eva
from models.towers.fastvit import FastViT
from models.towers.modified_resnet import ResNet
from models.towers.native import NativeViT
from models.towers.quick_gelu import make_lean
from models.towers.relpos_vit import RelPosViT
from models.towers.swin import Swin
from models.towers.timm_resnet import TimmResNet
from models.towers.timm_vit import TimmViT

__all__ = ["TOWERS", "TowerFamily", "family_of", "split_tower"]

TOWERS: list[TowerFamily] = [
    *(NativeViT(), TimmViT(), Eva(), RelPosViT()),
    *(ConvNeXt(), ResNet(), TimmResNet(), FastViT(), Swin()),
]


def family_of(tower: Any) -> TowerFamily:
    """Find the family of an open_clip image tower, which needs no weights for this.

    Raises:
        InputError: the tower is of no known family.
    """
    for family in TOWERS:
        if family.matches(tower):
            return family
    inner = getattr(tower, "trunk", tower)
    allowed = ", ".join(family.name for family in TOWERS if family.name)
    raise InputError(
        f"model.name: image tower {type(inner).__name__} cannot be split into blocks; "
        f"allowed: {allowed}"
    )


def split_tower(tower: Any) -> Encoder:
    """Split an open_clip image tower; the encoder shares its parameters and modules.

    Raises:
        InputError: the tower is of no known family, or has no vector for an image.
    """
    size = tower.image_size
    make_lean(tower)
    height, width = size if isinstance(size, tuple) else (size, size)
    encoder = Encoder(family_of(tower).groups(tower), (3, height, width))
    if len(shape := encoder.shapes[HEAD]) != 1:
        raise InputError(
            f"model.name: the image tower's output for an image has the shape {shape}; "
            "allowed: a tower that ends in pooling, so that it is one vector"
        )
    return encoder
