"""Winners refitted over several seeds and scored on the test split, each once."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from models.recipe import Recipe
from tune.bench import Workbench
from tune.groups import Group
from tune.pool import over_slots
from tune.search import Winner
from tune.sharing import SharedSplit

FOLDER = "final_fits"


@dataclass(frozen=True)
class FinalFit:
    """One winner, one seed.

    `probe` is the probe that its head starts from, `data` a digest of the splits it is chosen and
    scored on.
    """

    group: Group
    seed: int
    config: Mapping[str, Any]
    probe: Mapping[str, Any] | None
    data: str

    @property
    def identity(self) -> str:
        """Changes with what the fit depends on; results of another are not reused."""
        text = json.dumps([self.config, self.probe, self.data], sort_keys=True, default=list)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def path(self, run_dir: Path) -> Path:
        return run_dir / FOLDER / f"{_stem(self.group)}{self.seed}.json"


def _stem(group: Group) -> str:
    return f"{group.partition:g}-{group.method}-seed"


def final_fits(winners: Mapping[Group, Winner], seeds: int, data: str) -> list[FinalFit]:
    """Every winner with every seed; the long ones, at large partitions, first."""
    fits = []
    for group, winner in winners.items():
        recipe = Recipe(**winner.config)
        starts = recipe.head_start == "probe" and not recipe.frozen_encoder
        probe = winner.probe if starts else None
        fits += [FinalFit(group, seed, winner.config, probe, data) for seed in range(seeds)]
    return sorted(fits, key=lambda fit: -fit.group.partition)


def pending(fits: list[FinalFit], run_dir: Path) -> list[FinalFit]:
    """The fits without a result on disk."""
    return [fit for fit in fits if _identity_on_disk(fit.path(run_dir)) != fit.identity]


def discard_others(fits: list[FinalFit], run_dir: Path) -> None:
    """Remove results, of these fits' groups, that are of other winners or of seeds too many."""
    wanted = {fit.path(run_dir): fit.identity for fit in fits}
    for group in {fit.group for fit in fits}:
        for path in (run_dir / FOLDER).glob(f"{_stem(group)}*.json"):
            if _identity_on_disk(path) != wanted.get(path):
                path.unlink()


def run_final_fits(
    fits: list[FinalFit],
    bench: Workbench,
    test: SharedSplit,
    run_dir: Path,
    slot: Mapping[str, float],
    slots: int,
) -> Iterator[tuple[FinalFit, str | None]]:
    """Run fits on all slots, one atomic file each; yields each with why it failed, if it did."""
    worker = FinalFitWorker(bench, test)
    for fit, result in over_slots(FinalFitWorker.fit_and_score, worker, fits, slot, slots):
        if isinstance(result, Exception):
            yield fit, str(result).strip().splitlines()[-1]
        else:
            _write(fit.path(run_dir), result)
            yield fit, None


@dataclass(frozen=True, eq=False)
class FinalFitWorker:
    """Trains winners and predicts the test images, in a process of its own."""

    bench: Workbench
    test: SharedSplit

    def fit_and_score(self, fit: FinalFit) -> dict[str, Any]:
        """Train one winner with one seed and score it, once; returns its file's content."""
        began = time.perf_counter()
        bench, test = self.bench, self.test
        torch.set_num_threads(max(1, int(bench.experiment.resources.cpus_per_trial)))
        trained = bench.fit(fit.group, fit.config, fit.probe, fit.seed)
        bench.run(trained, fit.group.method)
        trained.restore_best()
        best = trained.best
        assert best is not None
        boundary = bench.boundary(trained.recipe, bench.encoder)
        logits = trained.logits(bench.examples(test, boundary))
        predictions = logits[best.head].argmax(-1).numpy()
        return {
            "partition": fit.group.partition,
            "method": fit.group.method,
            "seed": fit.seed,
            "n_train": len(bench.rows(fit.group.partition, fit.seed)),
            "n_val": len(bench.val),
            "n_test": len(test),
            "val_accuracy": best.val_accuracy,
            "test_accuracy": float((predictions == test.labels).mean()),
            "samples_chosen": best.samples,
            "steps_chosen": best.steps,
            "weight_distance": best.weight_distance,
            "seconds": round(time.perf_counter() - began, 4),
            "config_id": fit.identity,
            "predictions": predictions.tolist(),
        }


def _write(path: Path, result: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(result), encoding="utf-8")
    os.replace(temporary, path)


def _identity_on_disk(path: Path) -> str | None:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["config_id"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
