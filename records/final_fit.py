"""The final fits of a run: every winner refitted with several seeds, one file for each fit."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from errors import InputError, one_line
from files import replacing
from partitions import Partition, named
from records.cell import Cell
from records.encoding import LATER, check_share, decode, encode
from records.layout import FINAL_FITS, final_fit_path, is_final_fit

AUTO = "auto"
"""In place of the number of final seeds: see `planned_seeds`."""
TEST = "test"
"""The name of the test split among the test sets; the others have the experiment's names."""


def planned_seeds(seeds: int | str, partition: Partition, images: int) -> int:
    """Return how many final fits a winner gets.

    `auto` goes by the partition's training images: 8 fits below 50, 6 below 200, else 3. Few images
    make short fits, and much depends on which are drawn. At 100% nothing is drawn, so it is 3. The
    rule looks at no result.
    """
    if seeds != AUTO:
        return int(seeds)
    if partition == 100 or images >= 200:
        return 3
    return 8 if images < 50 else 6


@dataclass(frozen=True)
class SetScore:
    """How a fit did on one test set.

    Attributes:
        predictions: a class for each image, in the order of `test_images.csv`.
        confidences: the probability of each of them, by the softmax of the logits, to 4 digits.
        calibrated: the same by the logits over the fit's temperature. Both are empty in results
            of before.
        log_likelihoods: the log probability of each image's class, in runs whose metric is
            log_loss.
    """

    accuracy: float
    predictions: list[int]
    confidences: list[float] = field(default_factory=list, metadata=LATER)
    calibrated: list[float] = field(default_factory=list, metadata=LATER)
    log_likelihoods: list[float] = field(default_factory=list, metadata=LATER)

    def __post_init__(self) -> None:
        check_share("accuracy", self.accuracy)


@dataclass(frozen=True)
class FinalFitResult:
    """What came out of one winner refitted with one seed.

    Attributes:
        drawn: training images of the search's draw of the partition, unreadable ones included.
        val_accuracy: that of the weights that validation chose.
        val_correct: a value for each validation image (`metrics.image_values`), whose mean is that
            accuracy: 1 if they are right about it and 0 if they are wrong, unless the metric is
            another one.
        samples_chosen, steps_chosen: training samples and steps after which it chose them.
        weight_distance: how far the encoder's trained weights have moved, relative to their norm.
        chosen: the settings of the head of a bank that validation chose; empty without a bank.
        alpha: how far the weights are from their start to the tuned ones (1), where it was chosen.
        ema: whether validation chose the averaged weights, where there were any.
        gradient_norms: layer group -> kind of parameter -> norm.
        fit_key: a digest of all that the result depends on.
        tests: test set -> score; `test` is the first.
        temperature: what the logits are divided by for the likeliest labels of the validation
            images (`models/calibration.py`); None in results of before.
    """

    partition: Partition
    method: str
    seed: int
    n_train: int
    n_val: int
    val_accuracy: float
    val_correct: list[float]
    samples_chosen: int
    steps_chosen: int
    weight_distance: float
    chosen: dict[str, float]
    alpha: float | None
    ema: bool | None
    gradient_norms: dict[str, dict[str, float]]
    seconds: float
    fit_key: str
    tests: dict[str, SetScore]
    drawn: int = field(default=0, metadata=LATER, kw_only=True)
    temperature: float | None = field(default=None, metadata=LATER)

    @property
    def cell(self) -> Cell:
        """The cell that the fit belongs to."""
        return Cell(self.partition, self.method)

    @property
    def about(self) -> dict[str, Any]:
        """What the file of its weights says of it; the method is named without its encoder."""
        return {
            "partition": named(self.partition),
            "method": self.method.rpartition("/")[2],
            "seed": self.seed,
            "test_accuracy": self.tests[TEST].accuracy,
        }

    @property
    def n_test(self) -> int:
        """Images of the test split."""
        return len(self.tests[TEST].predictions)


def write_final_fit(run_dir: Path, result: FinalFitResult) -> None:
    """Write a result to its file, whole or not at all."""
    with replacing(final_fit_path(run_dir, result.cell, result.seed)) as path:
        text = json.dumps(encode(result), allow_nan=False, separators=(",", ":"))
        path.write_text(text, encoding="utf-8")


def read_final_fit(path: Path) -> FinalFitResult:
    """Read the file of a final fit.

    Raises:
        InputError: the file is no JSON, or a field of it is not as it should be.
        FileNotFoundError: there is no such file.
    """
    try:
        result = decode(FinalFitResult, json.loads(path.read_bytes()))
        if TEST not in result.tests:
            raise ValueError(f"it has no tests.{TEST}")
    except (ValueError, AttributeError, TypeError) as error:
        raise InputError(
            f"{path} is not the result of a final fit: {one_line(error)}; remove it, and --resume "
            "makes it again"
        ) from error
    return result


def find_final_fit(path: Path) -> FinalFitResult | None:
    """Read the file of a final fit; None if it is missing or damaged."""
    try:
        return read_final_fit(path)
    except (InputError, OSError):
        return None


def read_final_fits(run_dir: Path) -> dict[Cell, dict[int, FinalFitResult]]:
    """Read all final fits of a run as cell -> seed -> result, the seeds in their order.

    Files that are not named like a final fit's are passed over.

    Raises:
        InputError: a file is no JSON, a field of it is not as it should be, or it is named as
            another final fit's.
    """
    fits: defaultdict[Cell, dict[int, FinalFitResult]] = defaultdict(dict)
    for path in sorted((run_dir / FINAL_FITS).glob("*.json")):
        if not is_final_fit(path):
            continue
        fit = read_final_fit(path)
        if path != final_fit_path(run_dir, fit.cell, fit.seed):
            raise InputError(f"{path} holds the final fit of {fit.cell}, seed {fit.seed}")
        fits[fit.cell][fit.seed] = fit
    return {cell: dict(sorted(by_seed.items())) for cell, by_seed in fits.items()}
