"""The registry of tower families: one more is one file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from errors import InputError
from models.classifier import build_classifier
from models.device import Device
from models.exported import exported_weights
from models.fit import Fit
from models.flops import group_flops, sample_flops
from models.recipe import Recipe
from models.selection import select
from models.towers import TOWERS, split_tower
from tests.models.fits import CLASSES, images
from tests.models.tiny_towers import TOWERS as TINY
from tests.models.tiny_towers import at
from tests.models.toys import imported

MIXER = '''
"""A tower of perceptrons over the mean patch."""

import torch
from torch import nn

from models.encoder import embedding
from models.towers.base import TowerFamily, chain, part_of, run_module


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm, self.mlp = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x):
        return x + self.mlp(self.norm(x)).relu()


class Mixer(nn.Module):
    image_size = (16, 16)

    def __init__(self, width=24):
        super().__init__()
        self.patch = nn.Conv2d(3, width, 8, 8)
        self.position = nn.Parameter(torch.zeros(1, width))
        self.blocks = nn.ModuleList(Block(width) for _ in range(3))
        self.proj = nn.Linear(width, 12)

    def embed(self, pixels):
        return self.patch(pixels).flatten(2).mean(-1) + self.position

    def forward(self, pixels):
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        return self.proj(x)


class Mixers(TowerFamily):
    def matches(self, tower):
        return isinstance(tower, Mixer)

    def groups(self, tower):
        stem = part_of(tower, without={"blocks", "proj"})
        final = (tower.proj, lambda proj, x: embedding(proj(x)))
        run_stem = lambda part, pixels: part.embed(pixels)
        return chain((stem, run_stem), tower.blocks, final, run_module, no_decay=["position"])
'''


@pytest.mark.parametrize("name", TINY)
def test_every_tower_is_of_one_family(name: str) -> None:
    tower = TINY[name]()
    assert sum(family.matches(tower) for family in TOWERS) == 1


def test_a_family_is_added_in_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toy = imported(tmp_path, "mixer", MIXER)
    torch.manual_seed(0)
    tower = toy.Mixer()
    with pytest.raises(InputError, match="image tower Mixer cannot be split into blocks"):
        split_tower(tower)
    monkeypatch.setattr("models.towers.TOWERS", [*TOWERS, toy.Mixers()])
    encoder = split_tower(tower)
    pictures, labels = images(24, 1)
    with torch.no_grad():
        torch.testing.assert_close(encoder(pictures), toy.embedding(tower(pictures)))

    recipe = Recipe(
        **{"blocks": "all", "kinds": "ln+mlp+embed+proj", "lr": 3e-3, "head_lr": 0.05},
        **{"weight_decay": 0.1, "batch_size": 8, "llrd_decay": 0.5},
    )
    selection = select(recipe, encoder)
    decays = {p.key: p.decays for p in selection.parameters}
    assert decays["stem/part.patch.weight"]
    assert not decays["stem/part.position"]
    assert sample_flops(encoder, group_flops(encoder), selection, "pixels") > 0
    train, val = at(encoder, "pixels", pictures, labels), at(encoder, "pixels", *images(15, 2))
    fit = Fit(encoder, selection, "pixels", train, val, classes=CLASSES, horizon=400, seed=0)
    first, last = fit.train_until(40), fit.train_until(400)
    assert last.train_loss < first.train_loss
    assert set(fit.gradient_norms()) == {"stem", "block 0", "block 1", "block 2", "final"}
    cpu = Device("cpu")
    classifier = build_classifier(encoder, selection, "pixels", exported_weights(fit), cpu)
    assert torch.equal(classifier.logits(val, cpu), fit.logits(val))
