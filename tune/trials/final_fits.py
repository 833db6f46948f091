"""Winners refitted over several seeds and scored on the test splits, each once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import digits as DIGITS
from typing import Any

import torch

from data import LostFeaturesError
from files import replacing
from metrics import Metric, image_values, measured
from models.calibration import confidences, log_likelihoods
from models.classifier import build_classifier
from models.deltas import Scales, alike, as_deltas, from_deltas
from models.device import Device
from models.exported import Description, exported_weights, is_exported, save_exported
from models.feature_dataset import FeatureDataset
from models.final_weights import select_weights
from models.fit import Fit
from models.recipe import Recipe
from models.selection import select
from partitions import Partition
from records import (
    FINAL_FITS,
    WINNERS,
    Cell,
    FinalFitResult,
    SetScore,
    Winner,
    final_fit_path,
    find_final_fit,
    weights_path,
    write_final_fit,
)
from search_spaces import FinalConfig
from tune.storage.storage import Storage
from tune.trials.checkpoints import Checkpoint
from tune.trials.trial_context import TrialContext
from tune.workers.actor_pool import ActorPool
from tune.workers.object_store import SharedSplit, fetch
from tune.workers.own_device import own_device


@dataclass(frozen=True)
class FinalFitJob:
    """One winner, the trial of this number in its cell, to be refitted with one seed.

    `rests_on` names all else that the result depends on: the splits that it is chosen and scored
    on, and what is tried after training. `kept` says whether its weights are worth keeping; then
    these are scored, rounded as they are kept.
    """

    cell: Cell
    trial: int
    seed: int
    config: Mapping[str, Any]
    probe: Mapping[str, Any] | None
    rests_on: str
    kept: bool = True

    @property
    def fit_key(self) -> str:
        """Digest of all that the result depends on; a result with another key is not reused."""
        text = json.dumps([self.config, self.probe, self.rests_on], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, run_dir: Path) -> Path:
        """Return the file of the result."""
        return final_fit_path(run_dir, self.cell, self.seed)

    def weights_path(self, run_dir: Path) -> Path:
        """Return the file of the trained weights."""
        return weights_path(run_dir, self.cell, self.seed)


def final_fits(
    winners: Mapping[Cell, Winner], final: FinalConfig, seeds: Mapping[Partition, int], data: str
) -> list[FinalFitJob]:
    """List every winner with every seed: by seed, and the partitions from the last to the first.

    Each seed chooses the head of a bank on validation anew, as a fit that trains the encoder
    chooses its number of steps: what suits one draw of few images need not suit another. `seeds`
    counts the fits at each partition, and `data` names the splits that they are chosen and scored
    on.
    """
    fits, places = [], {partition: place for place, partition in enumerate(seeds)}
    for cell, winner in winners.items():
        recipe = Recipe(**winner.tried)
        probe = winner.probe if recipe.start == "probe" else None
        after = [] if recipe.frozen_encoder else [final.ema, final.wise_ft]
        rests_on = json.dumps([data, after])
        fits += [
            FinalFitJob(
                *(cell, winner.trial, seed, winner.tried, probe, rests_on),
                kept=keeps(final, recipe, seed),
            )
            for seed in range(seeds[cell.partition])
        ]
    return sorted(fits, key=lambda fit: (fit.seed, -places[fit.cell.partition]))


def keeps(final: FinalConfig, recipe: Recipe, seed: int) -> bool:
    """Whether the weights of a fit are kept where any are: the first seed's, and all heads."""
    return final.keep == "all" or seed == 0 or recipe.frozen_encoder


def pending(fits: list[FinalFitJob], run_dir: Path, export: bool) -> list[FinalFitJob]:
    """Return the fits that lack a result on disk, or the weights that are to be kept."""
    return [
        fit
        for fit in fits
        if _key_on_disk(fit.path(run_dir)) != fit.fit_key
        or (export and fit.kept and not is_exported(fit.weights_path(run_dir)))
    ]


def discard_others(fits: list[FinalFitJob], run_dir: Path) -> None:
    """Remove the results of these fits' cells that have other winners; further seeds stay."""
    keys = {fit.path(run_dir).stem.rstrip(DIGITS): fit.fit_key for fit in fits}
    for path in (run_dir / FINAL_FITS).glob("*.json"):
        stem = path.stem.rstrip(DIGITS)
        if stem in keys and _key_on_disk(path) != keys[stem]:
            (run_dir / WINNERS / path.name).with_suffix(".safetensors").unlink(missing_ok=True)
            path.unlink()


def run_final_fits(
    fits: Iterable[FinalFitJob], worker: FinalFitWorker, run_dir: Path, pool: ActorPool
) -> Iterator[tuple[FinalFitJob, float, str | None]]:
    """Run fits on all slots, one file each.

    Yields:
        Each fit that has ended, the device-seconds it took, and why it failed, if it did.

    Raises:
        InputError: features are damaged.
    """
    for fit, result in pool.map(FinalFitWorker.fit_and_score, worker, fits):
        if isinstance(lost := getattr(result, "cause", None), LostFeaturesError):
            raise lost
        if isinstance(result, Exception):
            yield fit, 0.0, str(result).strip().splitlines()[-1]
            continue
        done, description, weights = result
        if weights is None:
            fit.weights_path(run_dir).unlink(missing_ok=True)  # of another fit
        else:  # first, so that a result has its weights
            with replacing(fit.weights_path(run_dir)) as path:
                save_exported(path, description, weights)
        write_final_fit(run_dir, done)
        yield fit, done.seconds, None


Result = tuple[FinalFitResult, Description, dict[str, torch.Tensor] | None]


@dataclass(frozen=True)
class Kept:
    """Weights as a file has them, and what gives their logits (n, C) of a test set."""

    weights: dict[str, torch.Tensor]
    scales: Scales
    logits: Callable[[SharedSplit], torch.Tensor]


@dataclass(frozen=True, eq=False)
class FinalFitWorker:
    """Trains winners and predicts the test images, in a process of its own.

    Seed 0 has the draw and the order of samples of the search, and goes on from where the winner's
    trial was last evaluated, from the search's `checkpoints`.
    """

    context: TrialContext
    tests: Mapping[str, SharedSplit]
    checkpoints: Storage

    def fit_and_score(self, fit: FinalFitJob) -> Result:
        """Train one winner with one seed and score it once; return what is to be written."""
        began = time.perf_counter()
        context = self.context
        experiment, cell = context.experiment, fit.cell
        torch.set_num_threads(max(1, int(experiment.resources.cpus_per_trial)))
        recipe = Recipe(**fit.config)
        trained = context.fit(cell, fit.config, fit.probe, fit.seed)
        if fit.seed == 0:
            folder, config, probe = self.checkpoints, fit.config, fit.probe
            winner = Checkpoint(folder, context, cell, fit.trial, config, probe, trained)
            if winner.take_up(trained) and context.judges_are_few(cell.partition):
                trained.judge_again()
        context.run(cell, trained)
        alpha, ema = _choose_weights(trained, experiment.final.wise_ft)
        best = trained.best
        assert best is not None
        chosen, recipe = recipe.chosen(best.head), recipe.of_head(best.head)
        boundary = context.boundary(recipe)
        correct, temperature = trained.validate(best.head)
        kept = None
        if experiment.final.export and fit.kept:
            kept = self._kept(fit, trained, recipe, boundary)
        scores = score_tests(
            self.tests,
            lambda test: kept.logits(test) if kept else _logits(trained, test.examples(boundary)),
            experiment.metric,
            temperature,
        )
        result = FinalFitResult(
            partition=cell.partition,
            method=cell.method,
            seed=fit.seed,
            n_train=len(context.rows(cell.partition, fit.seed)),
            drawn=context.images[cell.partition],
            n_val=len(context.val_rows(cell.partition, fit.seed)),
            val_accuracy=best.val_accuracy,
            val_correct=correct,
            samples_chosen=best.samples,
            steps_chosen=best.steps,
            weight_distance=best.weight_distance,
            chosen=chosen,
            alpha=alpha,
            ema=ema,
            gradient_norms=trained.gradient_norms(),
            seconds=round(time.perf_counter() - began, 4),
            fit_key=fit.fit_key,
            tests=scores,
            temperature=temperature,
        )
        description = self._described(result, recipe, boundary, kept.scales if kept else {})
        return result, description, kept.weights if kept else None

    def _kept(self, fit: FinalFitJob, trained: Fit, recipe: Recipe, boundary: str) -> Kept:
        """Return the weights as they are kept: as differences, if these classify validation alike.

        It looks at no test image.
        """
        weights, context = exported_weights(trained), self.context
        whole = Kept(weights, {}, lambda test: _logits(trained, test.examples(boundary)))
        if recipe.frozen_encoder:
            return whole
        selection = select(recipe, context.encoder)
        stored, scales = as_deltas(weights, selection, context.encoder)
        back = from_deltas(stored, scales, selection, context.encoder)
        deterministic = context.experiment.resources.deterministic
        device = Device(own_device(deterministic), context.precision)
        classifier = build_classifier(context.encoder, selection, boundary, back, device)
        val = context.val.examples(boundary, context.val_rows(fit.cell.partition, fit.seed))
        if not alike(_logits(trained, val), classifier.logits(val, device)):
            return whole
        # What is scored is what is kept, so that the table can be made again from it.
        return Kept(stored, scales, lambda test: classifier.logits(test.examples(boundary), device))

    def _described(
        self, result: FinalFitResult, recipe: Recipe, boundary: str, scales: Scales
    ) -> Description:
        """Describe the weights of a fit for their file."""
        context = self.context
        return Description(
            recipe=recipe,
            boundary=boundary,
            model=context.experiment.model,
            fingerprint=fetch(context.pretrained).fingerprint,
            precision=context.precision,
            classes=context.classes,
            about=result.about,
            temperature=result.temperature,
            scales=scales,
        )


def _logits(fit: Fit, examples: FeatureDataset) -> torch.Tensor:
    """Return the logits (n, C) of a fit's best head."""
    assert fit.best is not None
    return fit.logits(examples, fit.best.head)


def _choose_weights(fit: Fit, alphas: tuple[float, ...]) -> tuple[float | None, bool | None]:
    """Set the weights to be scored; return the alpha and the average that validation chose."""
    if fit.recipe.frozen_encoder:
        fit.restore_best()
        return None, None
    chosen = select_weights(fit, alphas)
    return chosen.alpha, chosen.averaged


def score_tests(
    tests: Mapping[str, SharedSplit],
    logits: Callable[[SharedSplit], torch.Tensor],
    metric: Metric,
    temperature: float = 1.0,
) -> dict[str, SetScore]:
    """Score each test set by its logits (n, C), which `logits` returns."""
    scores = {}
    for name, test in tests.items():
        found = logits(test)
        logs = []
        if metric == "log_loss":
            logs = log_likelihoods(found, torch.from_numpy(test.labels))
        predictions = found.argmax(-1).numpy()
        accuracy = measured(image_values(predictions, test.labels, metric, logs))
        sure = confidences(found), confidences(found, temperature)
        scores[name] = SetScore(accuracy, predictions.tolist(), *sure, logs)
    return scores


def spent_on(fits: Iterable[FinalFitJob], run_dir: Path) -> dict[Cell, float]:
    """Sum the device-seconds of fits that were made before, by cell."""
    spent: dict[Cell, float] = {}
    for fit in fits:
        if result := find_final_fit(fit.path(run_dir)):
            spent[fit.cell] = spent.get(fit.cell, 0.0) + result.seconds
    return spent


def _key_on_disk(path: Path) -> str | None:
    result = find_final_fit(path)
    return result.fit_key if result else None
