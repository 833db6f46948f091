"""The one trainable: a fit, from milestone to milestone, on an actor that is reused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune

from files import replacing
from tune.groups import Group

if TYPE_CHECKING:
    from models.evaluation import Evaluation
    from models.fit import Fit
    from tune.bench import Workbench


class SuffixTrial(tune.Trainable):
    """Trains one configuration; every `step` reports at the next milestone.

    The trial's own file under `checkpoints` carries it over a pause at a rung and over the death
    of its process, of its node or of the driver alike: whoever runs the trial next finds it there.
    """

    # Tune stops an actor that is still starting when another becomes free for its trial. Were
    # starting slower than trials, that other would do all the work and the rest never begin. So
    # starting is cheap: what takes seconds (torch, weights, features) waits for the first step.

    def setup(  # type: ignore[override]
        self, config: dict[str, Any], bench: tuple[ray.ObjectRef[Workbench]], checkpoints: Path
    ) -> None:
        self._handle = bench[0]
        self._checkpoints = checkpoints
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._asked = new_config
        self._fit: Fit | None = None  # the last trial's memory goes before the next one's comes
        self._seconds, self._milestone = 0.0, 0
        self._reported: dict[str, Any] | None = None
        return True

    def step(self) -> dict[str, Any]:
        bench = self._bench()
        began = time.perf_counter()  # after what an actor does once: imports, weights
        if self._fit is None:
            self._fit = self._prepare(bench)
        fit = self._fit
        if self._reported is not None:
            report, self._reported = self._reported, None
            return report  # once more, in case its reader died before it was read
        self._milestone = next(point for point in self._points if point > self._milestone)
        evaluation = fit.advance(self._milestone, prospect=True)
        self._seconds += time.perf_counter() - began
        report = _report(evaluation, fit, self._milestone, self._seconds)
        if evaluation.finite and self._milestone < self._points[-1]:
            self._save(fit, report)
        return report

    def _bench(self) -> Workbench:
        import torch

        from tune.sharing import fetch

        bench: Workbench = fetch(self._handle)
        torch.set_num_threads(max(1, int(bench.experiment.resources.cpus_per_trial)))
        _ = bench.encoder
        return bench

    def _prepare(self, bench: Workbench) -> Fit:
        """The trial's fit, at its start or where its checkpoint left it."""
        import torch

        from tune.rungs import milestones

        experiment = bench.experiment
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        asked = self._asked
        group, number = Group.parse(asked["group"]), asked["number"]
        horizon = experiment.horizon(group.method)
        self._checkpoint = checkpoint_path(self._checkpoints, group, number)
        fit = bench.fit(group, asked["config"], asked["probe"], seed=0)
        self._points = milestones(horizon, experiment.search, fit.recipe.trained)
        # Another run's checkpoint may lie there, on a machine the driver could not clean up.
        mine = [asked[key] for key in ("group", "number", "config", "probe")]
        self._identity = json.dumps(
            [*mine, bench.identity, experiment.seed, horizon, fit.precision]
        )
        if self._checkpoint.exists():
            saved = torch.load(self._checkpoint, map_location="cpu", weights_only=True)
            if saved["identity"] != self._identity:
                return fit
            fit.load(saved["fit"])
            self._reported = saved["report"]
            self._seconds = saved["report"]["seconds"]
            self._milestone = saved["report"]["milestone"]
        return fit

    def _save(self, fit: Fit, report: dict[str, Any]) -> None:
        import torch

        saved = {"identity": self._identity, "fit": fit.state(), "report": report}
        with replacing(self._checkpoint) as path:
            torch.save(saved, path)

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
        "prospect": evaluation.score if evaluation.prospect is None else evaluation.prospect,
        "weight_distance": evaluation.weight_distance,
        "diverged": not evaluation.finite,
        "seconds": round(seconds, 4),
        "node": ray.get_runtime_context().get_node_id()[:8],
        **chosen,
    }
