"""The images that each fit is given, now that it is known which can be read, and what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from data import Draws, each_draw
from errors import InputError, shown
from partitions import Partition, named
from tune.features.stage import Features
from tune.workers.object_store import UNREADABLE

Needed = Mapping[str, NDArray[np.int64]]


def read_drawn(
    draws: Draws, seeds: Mapping[Partition, int], make: Callable[[Needed], Features]
) -> tuple[Draws, Features]:
    """Make the features of what is drawn; where a class lost its images, draw others and go on.

    Args:
        draws: of the images as they are listed.
        seeds: how many final seeds each partition has.
        make: makes the features of some rows of train and val.

    Returns:
        The draws that know which images cannot be read, and features of all that they draw.
    """
    needed = draws.needed(seeds)
    while True:
        made = make(needed)
        places = made.splits["train"].places
        assert places is not None  # as the stage has them
        lost = np.flatnonzero(places == UNREADABLE)
        draws = replace(draws, broken=np.union1d(draws.broken, lost))
        train = np.union1d(needed["train"], draws.needed(seeds)["train"])
        if len(train) == len(needed["train"]):
            return draws, made
        needed = {**needed, "train": train}
        del made  # its arrays lie in memory


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
        InputError: no training image of a class can be read.
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
                f"data.source: no training image of class {shown(classes[min(lost)])} can be read "
                "(skipped_images.csv); every class needs one: mend them, or remove the class"
            )
        judged = val.readable(draws.val_rows(partition, seed))
        digest = hashlib.sha256(contents[places].tobytes() + b"|" + val_contents[judged].tobytes())
        found[f"{named(partition)}/seed{seed}"] = digest.hexdigest()
    return found
