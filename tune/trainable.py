"""The one trainable: a fit, from milestone to milestone, on an actor that is reused."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import torch
from ray import tune

from models.fit import Evaluation, Fit
from tune.bench import Workbench
from tune.groups import Group
from tune.rungs import milestones


class SuffixTrial(tune.Trainable):
    """Trains one configuration; every `step` reports at the next milestone.

    The trial's own file under `checkpoints` carries it over the death of its process, of its
    node or of the driver alike: whoever runs the trial next finds it there.
    """

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], bench: Workbench, checkpoints: Path
    ) -> None:
        torch.set_num_threads(max(1, int(bench.experiment.resources.cpus_per_trial)))
        self._bench = bench
        self._checkpoints = checkpoints
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        began = time.perf_counter()
        self._group = Group.parse(new_config["group"])
        self._number: int = new_config["number"]
        self._checkpoint = checkpoint_path(self._checkpoints, self._group, self._number)
        # Let go of the last trial's memory before taking the next one's.
        self._fit: Fit | None = None
        _release_gpu_memory()
        self._fit = self._bench.fit(self._group, new_config["config"], new_config["probe"], seed=0)
        self._seconds = 0.0
        self._milestone = 0
        self._reported: dict[str, Any] | None = None
        self._restore()
        self._seconds += time.perf_counter() - began
        return True

    def step(self) -> dict[str, Any]:
        if self._reported is not None:
            report, self._reported = self._reported, None
            return report  # once more, in case its reader died before it was read
        began = time.perf_counter()
        fit = self._fit
        assert fit is not None
        experiment = self._bench.experiment
        horizon = experiment.horizon(self._group.method)
        points = milestones(horizon, experiment.search)
        milestone = next(point for point in points if point > self._milestone)
        evaluation = fit.advance(milestone)
        self._milestone = milestone
        last = milestone >= horizon or not evaluation.finite
        self._seconds += time.perf_counter() - began
        report = _report(evaluation, fit, milestone, self._seconds)
        if not last:
            self._save(report)
        return report

    def _save(self, report: dict[str, Any]) -> None:
        assert self._fit is not None
        self._checkpoint.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._checkpoint.with_suffix(f".{os.getpid()}.tmp")
        torch.save({"fit": self._fit.state(), "report": report}, temporary)
        os.replace(temporary, self._checkpoint)

    def _restore(self) -> None:
        assert self._fit is not None
        if self._checkpoint.exists():
            saved = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
            self._fit.load(saved["fit"])
            self._reported = saved["report"]
            self._seconds = saved["report"]["seconds"]
            self._milestone = saved["report"]["milestone"]

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: Tune asks for one when a run ends, and the trial keeps its own."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, as above."""


def checkpoint_path(folder: Path, group: Group, number: int) -> Path:
    """Where a trial's checkpoint lies."""
    return folder / f"{group.partition:g}-{group.method}-{number}.pt"


def _report(evaluation: Evaluation, fit: Fit, milestone: int, seconds: float) -> dict[str, Any]:
    recipe = fit.recipe
    chosen = {}
    if len(recipe.bank) > 1:
        head_lr, weight_decay = recipe.bank[evaluation.head]
        chosen = {"chosen": {"head_lr": head_lr, "weight_decay": weight_decay}}
    return {
        "milestone": milestone,
        "samples": evaluation.samples,
        "steps": evaluation.steps,
        "train_loss": evaluation.train_loss,
        "val_accuracy": evaluation.val_accuracy,
        "val_loss": evaluation.val_loss,
        "score": evaluation.score,
        "weight_distance": evaluation.weight_distance,
        "diverged": not evaluation.finite,
        "seconds": round(seconds, 4),
        **chosen,
    }


def _release_gpu_memory() -> None:
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
