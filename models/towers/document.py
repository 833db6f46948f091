"""The document of the image towers that open_clip lists, by family and number of blocks.

    python -m models.towers.document     writes docs/encoders.md

Towers are built without memory for weights.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import open_clip
import timm
import torch
from open_clip.model import _build_vision_tower
from torch import nn

from files import replacing
from models.encoder import LayerGroup
from models.recipe import KINDS
from models.towers import TOWERS, TowerFamily, family_of

FILE = Path(__file__).resolve().parents[2] / "docs" / "encoders.md"
HEAD = """# Encoders

The names of open_clip {version}, by image tower. `blocks` in a search space counts the blocks from
0, and `kinds` may name these kinds of layer in them. (`python -m models.towers.document` writes
this.)

`hf-hub:ORG/NAME` takes an open_clip model of the hub, and `timm:NAME.TAG` a model of timm {timm} if
its image tower is of one of these families or a {others}, such as
`timm:vit_small_patch14_dinov2.lvd142m`. timm's have no text tower, so no `zero_shot`, `gda` or
`anchor`.

With `models: {{clip: …, dino: …, both: {{concat: [clip, dino]}}}}` there is a third, `both`: the
embeddings of the two side by side, each made a unit vector first. They come from the cache of each,
so no image is encoded again. It has no blocks, so only methods with `blocks: none`. Where all have
a text tower, its `zero_shot` is the mean of their logits. `export` refuses it; `predict` does not.

| image tower | blocks | kinds | names |
|---|---|---|---|
"""


class Listed(NamedTuple):
    """A name that open_clip lists, with its image tower, on the meta device, and the layer groups.

    Names with the same tower share it.
    """

    name: str
    family: TowerFamily
    tower: nn.Module
    groups: list[LayerGroup]

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.groups) - 2

    @property
    def block_kinds(self) -> tuple[str, ...]:
        """The kinds that some block has."""
        found = {kind for group in self.groups[1:-1] for kind in group.kinds.values()}
        return tuple(kind for kind in KINDS if kind in found)


def listed() -> Iterator[Listed]:
    """Yield every name of open_clip, in order.

    Raises:
        InputError: a tower cannot be split.
    """
    split: dict[str, tuple[TowerFamily, nn.Module, list[LayerGroup]]] = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        built = (config["embed_dim"], config["vision_cfg"], config.get("quick_gelu", False))
        if (key := json.dumps(built[:2], sort_keys=True)) not in split:
            with torch.device("meta"):
                tower = _build_vision_tower(*built)
                family = family_of(tower)
                split[key] = family, tower, family.groups(tower)
        yield Listed(name, *split[key])


def written(towers: Iterable[Listed]) -> str:
    """Return the text of the document."""
    rows: defaultdict[tuple[str, int, str], list[str]] = defaultdict(list)
    for one in towers:
        kinds = ", ".join(one.block_kinds)
        rows[one.family.name, one.depth, kinds].append(f"`{one.name}`")
    lines = [
        f"| {family} | {depth} | {kinds} | {', '.join(names)} |\n"
        for (family, depth, kinds), names in sorted(rows.items())
    ]
    others = {family.name for family in TOWERS} - {family for family, _, _ in rows}
    names = {"version": open_clip.__version__, "timm": timm.__version__}
    return HEAD.format(**names, others=", ".join(sorted(others))) + "".join(lines)


if __name__ == "__main__":
    with replacing(FILE) as place:
        place.write_text(written(listed()), encoding="utf-8")
