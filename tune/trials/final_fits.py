"""Winners refitted over several seeds and scored on the test splits, each once."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from files import replacing
from models.exported import Description, exported_weights, save_exported
from models.final_weights import select_weights
from models.fit import Fit
from models.recipe import Recipe
from records import Cell, Winner
from search_spaces.schema import FinalConfig
from tune.storage.storage import Storage
from tune.trials.checkpoints import Checkpoint
from tune.trials.trial_context import Workbench
from tune.workers.actor_pool import Pool
from tune.workers.object_store import SharedSplit

FOLDER = "final_fits"
WINNERS = "winners"
TEST = "test"


@dataclass(frozen=True)
class FinalFit:
    """One winner, one seed.

    `trial` is the number of the winner, `probe` the probe that its head starts from, `basis` a
    digest of all else that the result rests on: the splits it is chosen and scored on, and what is
    tried after training.
    """

    cell: Cell
    trial: int
    seed: int
    config: Mapping[str, Any]
    probe: Mapping[str, Any] | None
    basis: str

    @property
    def identity(self) -> str:
        """Changes with what the fit depends on; results of another are not reused."""
        text = json.dumps([self.config, self.probe, self.basis], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, run_dir: Path) -> Path:
        """Of what came out."""
        return run_dir / FOLDER / f"{_stem(self.cell)}{self.seed}.json"

    def weights_path(self, run_dir: Path) -> Path:
        """Of the trained weights."""
        return weights_path(run_dir, self.cell, self.seed)


def weights_path(run_dir: Path, cell: Cell, seed: int) -> Path:
    """Where the weights of a cell's final fit lie."""
    return run_dir / WINNERS / f"{_stem(cell)}{seed}.safetensors"


def _stem(cell: Cell) -> str:
    return f"{cell.partition:g}-{cell.method}-seed"


def final_fits(winners: Mapping[Cell, Winner], final: FinalConfig, data: str) -> list[FinalFit]:
    """Every winner with every seed; first all with one, the long ones, at large partitions, first.

    Of a bank each seed chooses its head on validation anew, as a fit that trains the encoder
    chooses its number of steps: what suits one draw of few images need not suit another.

    Args:
        data: names the splits that fits are chosen and scored on.
    """
    fits = []
    for cell, winner in winners.items():
        recipe = Recipe(**winner.tried)
        probe = winner.probe if recipe.start == "probe" else None
        after = [] if recipe.frozen_encoder else [final.ema, final.wise_ft]
        basis = json.dumps([data, after])
        fits += [
            FinalFit(cell, winner.trial, seed, winner.tried, probe, basis)
            for seed in range(final.seeds)
        ]
    return sorted(fits, key=lambda fit: (fit.seed, -fit.cell.partition))


def pending(fits: list[FinalFit], run_dir: Path, export: bool) -> list[FinalFit]:
    """The fits without a result on disk, or without the weights that are to be kept."""
    return [
        fit
        for fit in fits
        if _identity_on_disk(fit.path(run_dir)) != fit.identity
        or (export and not fit.weights_path(run_dir).exists())
    ]


def discard_others(fits: list[FinalFit], run_dir: Path) -> None:
    """Remove results, of these fits' cells, that are of other winners or of seeds too many."""
    wanted = {fit.path(run_dir): fit.identity for fit in fits}
    stems = {_stem(fit.cell) for fit in fits}
    for path in (run_dir / FOLDER).glob("*.json"):
        ours = path.stem.rstrip("0123456789") in stems
        if ours and _identity_on_disk(path) != wanted.get(path):
            (run_dir / WINNERS / path.name).with_suffix(".safetensors").unlink(missing_ok=True)
            path.unlink()


def run_final_fits(
    fits: Iterable[FinalFit], worker: FinalFitWorker, run_dir: Path, pool: Pool
) -> Iterator[tuple[FinalFit, str | None]]:
    """Run fits on all slots, one atomic file each; yields each with why it failed, if it did."""
    for fit, result in pool.map(FinalFitWorker.fit_and_score, worker, fits):
        if isinstance(result, Exception):
            yield fit, str(result).strip().splitlines()[-1]
            continue
        record, description, weights = result
        if weights is not None:  # first, so that a result has its weights
            with replacing(fit.weights_path(run_dir)) as path:
                save_exported(path, description, weights)
        with replacing(fit.path(run_dir)) as path:
            path.write_text(json.dumps(record), encoding="utf-8")
        yield fit, None


Result = tuple[dict[str, Any], Description, dict[str, torch.Tensor] | None]


@dataclass(frozen=True, eq=False)
class FinalFitWorker:
    """Trains winners and predicts the test images, in a process of its own.

    `tests` holds the test split as "test", and the extra tests by their names. `checkpoints` is
    the folder of the search's: seed 0 has its draw and its order, and goes on from where the
    winner's own trial was last evaluated.
    """

    bench: Workbench
    tests: Mapping[str, SharedSplit]
    fingerprint: str
    classes: tuple[str, ...]
    checkpoints: Storage

    def fit_and_score(self, fit: FinalFit) -> Result:
        """Train one winner with one seed and score it, once; returns what is to be written."""
        began = time.perf_counter()
        bench = self.bench
        experiment, cell = bench.experiment, fit.cell
        torch.set_num_threads(max(1, int(experiment.resources.cpus_per_trial)))
        recipe = Recipe(**fit.config)
        trained = bench.fit(cell, fit.config, fit.probe, fit.seed)
        if fit.seed == 0:
            winner = (cell, fit.trial, fit.config, fit.probe)
            Checkpoint(self.checkpoints, bench, *winner, trained).take_up(trained)
        bench.run(trained, cell.method)
        chosen = _chosen_after_training(trained, experiment.final.wise_ft)
        best = trained.best
        assert best is not None
        head_lr, weight_decay = recipe.bank[best.head]
        recipe = recipe.model_copy(update={"head_lr": (head_lr,), "weight_decay": (weight_decay,)})
        boundary = bench.boundary(recipe)
        scores = score_tests(
            self.tests, lambda test: trained.logits(test.examples(boundary))[best.head]
        )
        record = {
            "partition": cell.partition,
            "method": cell.method,
            "seed": fit.seed,
            "n_train": len(bench.rows(cell.partition, fit.seed)),
            "n_val": len(bench.val_rows(cell.partition, fit.seed)),
            "n_test": len(self.tests[TEST]),
            "val_accuracy": best.val_accuracy,
            "test_accuracy": scores[TEST]["accuracy"],
            "samples_chosen": best.samples,
            "steps_chosen": best.steps,
            "weight_distance": best.weight_distance,
            "head_lr": head_lr,
            "weight_decay": weight_decay,
            **chosen,
            "gradient_norms": trained.gradient_norms(),
            "seconds": round(time.perf_counter() - began, 4),
            "config_id": fit.identity,
            "predictions": scores[TEST]["predictions"],
            "extra": {name: found for name, found in scores.items() if name != TEST},
        }
        description = Description(
            recipe=recipe,
            boundary=boundary,
            model=experiment.model,
            fingerprint=self.fingerprint,
            precision=bench.precision,
            classes=self.classes,
            about={key: record[key] for key in ("partition", "method", "seed", "test_accuracy")},
        )
        weights = exported_weights(trained) if experiment.final.export else None
        return record, description, weights


def _chosen_after_training(fit: Fit, alphas: tuple[float, ...]) -> dict[str, Any]:
    """Set what is to be scored; returns what validation chose, for the record."""
    if fit.recipe.frozen_encoder:
        fit.restore_best()
        return {"alpha": None, "ema": None}
    chosen = select_weights(fit, alphas)
    return {"alpha": chosen.alpha, "ema": chosen.averaged}


def score_tests(
    tests: Mapping[str, SharedSplit], logits: Callable[[SharedSplit], torch.Tensor]
) -> dict[str, dict[str, Any]]:
    """Accuracy and predictions on each test, from its logits (n, C)."""
    scores = {}
    for name, test in tests.items():
        predictions = logits(test).argmax(-1).numpy()
        accuracy = float((predictions == test.labels).mean())
        scores[name] = {"accuracy": accuracy, "predictions": predictions.tolist()}
    return scores


def _identity_on_disk(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["config_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
