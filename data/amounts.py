"""Which shares of few training images are worth a row of the table."""

from __future__ import annotations

from data.dataset import Dataset
from data.draws import Draws
from partitions import Partition, Shots

PERCENTAGES = (1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100)
SHOTS = (1, 2, 4, 8, 16)


def sensible_amounts(images: int, classes: int) -> tuple[Partition, ...]:
    """Choose a table's rows by the number of training images and of classes.

    They are the usual percentages, if the least has an image of every class. Else shots take the
    place of the percentages of fewer than two images a class: they say what those would hide.
    """
    if _images(1, images) >= classes:
        return PERCENTAGES
    enough = [p for p in PERCENTAGES if p == 100 or _images(p, images) >= 2 * classes]
    percentages = list({_images(p, images): p for p in enough}.values())  # of equals the last
    least = _images(percentages[0], images)
    shots = [Shots(number) for number in SHOTS if number * classes < least]
    return (*shots, *percentages)


def three_of(amounts: tuple[Partition, ...]) -> tuple[Partition, ...]:
    """Keep the least amount, the least percentage from 10 on, and all images."""
    percentages = [p for p in amounts if not isinstance(p, Shots) and p >= 10]
    return tuple(dict.fromkeys((amounts[0], percentages[0], amounts[-1])))


def different_amounts(
    amounts: tuple[Partition, ...], dataset: Dataset, seed: int
) -> tuple[Partition, ...]:
    """Drop the amounts whose training images are no more than those of a smaller one.

    Classes may have few images, and a source's groups come whole. All images stay.
    """
    train = dataset.train
    largest = len(train)
    kept: list[Partition] = []
    draws = Draws.of(train, dataset.val, seed, matched=False)
    for amount in reversed(amounts):
        rows = len(draws.rows(amount, 0))
        if not kept or rows < largest:
            kept.append(amount)
            largest = rows
    return tuple(reversed(kept))


def _images(percent: float, images: int) -> int:
    return round(percent / 100 * images)
