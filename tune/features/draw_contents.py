"""What the images hold that each fit is given: what its result rests on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from data import Draws, each_draw
from errors import InputError, shown
from partitions import Partition, named, titled
from tune.features.stage import Features


def draw_contents(
    draws: Draws, seeds: Mapping[Partition, int], made: Features, classes: Sequence[str]
) -> dict[str, str]:
    """Digest the images that each fit is given, by its partition and seed: `10/seed0`.

    Args:
        draws: what fits are given.
        seeds: how many final seeds each partition has.
        made: features of train and val.
        classes: their names.

    Raises:
        InputError: no training image of a class that a partition draws can be read.
    """
    train, val = made.splits["train"], made.splits["val"]
    contents, val_contents = (
        np.array(made.contents[name].split.digests, "S64") for name in ("train", "val")
    )
    found = {}
    for partition, seed in each_draw(seeds):
        rows = draws.rows(partition, seed)
        places = train.readable(rows)
        if lost := {*draws.train.labels[rows].tolist()} - {*train.labels[places].tolist()}:
            raise InputError(
                f"data.source: {titled(partition)} with seed {seed} draws images of class "
                f"{shown(classes[min(lost)])} none of which can be read (skipped_images.csv); "
                "every class needs one: mend or remove them"
            )
        judged = val.readable(draws.val_rows(partition, seed))
        digest = hashlib.sha256(contents[places].tobytes() + b"|" + val_contents[judged].tobytes())
        found[f"{named(partition)}/seed{seed}"] = digest.hexdigest()
    return found
