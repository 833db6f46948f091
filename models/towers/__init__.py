"""The families of image towers that can be split into layer groups.

To add one, write a `TowerFamily` in a file of its own beside this one, and append it to `TOWERS`.
"""

from __future__ import annotations

from typing import Any

from errors import InputError
from models.encoder import Encoder
from models.towers.base import TowerFamily
from models.towers.native import NativeViT
from models.towers.timm_vit import TimmViT

__all__ = ["TOWERS", "TowerFamily", "family_of", "split_tower"]

TOWERS: list[TowerFamily] = [NativeViT(), TimmViT()]


def family_of(tower: Any) -> TowerFamily:
    """Find the family of an open_clip image tower, which needs no weights for this.

    Raises:
        InputError: the tower is of no known family.
    """
    for family in TOWERS:
        if family.matches(tower):
            return family
    inner = getattr(tower, "trunk", tower)
    raise InputError(
        f"model.name: image tower {type(inner).__name__} cannot be split into blocks; "
        "allowed: open_clip's own ViTs and timm's VisionTransformer"
    )


def split_tower(tower: Any) -> Encoder:
    """Split an open_clip image tower; the encoder shares its parameters.

    Raises:
        InputError: the tower is of no known family.
    """
    return Encoder(family_of(tower).groups(tower), tower.image_size)
