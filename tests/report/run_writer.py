"""A run's directory written by hand, as the search would write it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from report.run import read_run
from report.summary import Summary, summarise

IMAGES = 100  # of a test set: all of class 1 in the test split, of class 2 in others
PROBE = {"blocks": "none", "head_lr": 0.01, "weight_decay": 1e-4, "batch_size": 64}
TUNED = {"blocks": "11-7", "kinds": "ln+attn", "lr": 3e-4, "llrd_decay": 0.75, "batch_size": 64}


class RunWriter:
    """Writes a run's files as the search would."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        (run_dir / "final_fits").mkdir(parents=True)
        self.events: list[dict[str, Any]] = []

    def experiment(self, methods: Sequence[str], partitions: Sequence[float], **more: Any) -> None:
        """Write `experiment.yaml`."""
        content = {"data": {"partitions": [*partitions]}, "methods": {m: {} for m in methods}}
        text = yaml.safe_dump(content | more, sort_keys=False)
        (self.run_dir / "experiment.yaml").write_text(text)
        self.flush()

    def event(self, kind: str, **fields: Any) -> None:
        """Append an event to the journal."""
        self.events.append({"time": 1.7e9 + len(self.events), "event": kind, **fields})
        self.flush()

    def flush(self, tail: str = "") -> None:
        """Write the journal, with a torn last line if asked for one."""
        lines = "".join(json.dumps(event) + "\n" for event in self.events)
        (self.run_dir / "events.jsonl").write_text(lines + tail)

    def trial(
        self, cell: str, number: int, curve: Sequence[float], status: str | None = "completed"
    ) -> None:
        """Append a trial with a validation accuracy every 100 samples; without status it runs."""
        self.event("trial_started", cell=cell, trial=number, config=TUNED, origin="sampler")
        for step, accuracy in enumerate(curve, start=1):
            self.event(
                "trial_report",
                cell=cell,
                trial=number,
                samples=100 * step,
                val_accuracy=accuracy,
                val_loss=1 - accuracy,
                score=accuracy,
                seconds=0.5 * step,
            )
        if status:
            self.event("trial_ended", cell=cell, trial=number, status=status)

    def winner(self, cell: str, val_accuracy: float, config: Mapping[str, Any]) -> None:
        """Append a winner."""
        self.event("winner", cell=cell, trial=0, val_accuracy=val_accuracy, config=dict(config))

    def final_fits(self, cell: str, test_accuracies: Sequence[float], **more: Any) -> None:
        """Write a cell's final fits, seeds counted from 0; the first images are right."""
        partition, method = cell.split("/")
        for seed, accuracy in enumerate(test_accuracies):
            fit = {
                "partition": float(partition),
                "method": method,
                "seed": seed,
                "n_train": round(10 * float(partition)),
                "n_val": 360,
                "n_test": IMAGES,
                "val_accuracy": 0.5,
                "test_accuracy": accuracy,
                "samples_chosen": 3000,
                "steps_chosen": 40 + seed,
                "weight_distance": 0.0 if method == "frozen" else 0.031,
                "seconds": 3.2,
                "config_id": "a1",
                "predictions": predictions(accuracy),
            }
            self.fit_path(cell, seed).write_text(json.dumps(fit | more))

    def failed_fit(self, cell: str, seed: int, reason: str) -> None:
        """Append a final fit that failed, and remove what it had come to before."""
        self.event("final_fit_failed", cell=cell, seed=seed, reason=reason)
        self.fit_path(cell, seed).unlink(missing_ok=True)

    def test_images(self, *extra: str, burst: int | None = None) -> None:
        """Write `test_images.csv`, for the test split and further sets of as many images.

        With `burst`, so many of the test split's images each are a group.
        """
        rows = [
            f"{name},{i}.png,{1 if name == 'test' else 2}"
            + ("" if burst is None else f",{f'b{i // burst}' if name == 'test' else ''}")
            for name in ("test", *extra)
            for i in range(IMAGES)
        ]
        header = "set,key,label" + ("" if burst is None else ",group")
        (self.run_dir / "test_images.csv").write_text("\n".join([header, *rows, ""]))

    def extra_scores(self, name: str, cell: str, accuracies: Sequence[float]) -> None:
        """Add scores on a further test set to a cell's final fits."""
        for seed, accuracy in enumerate(accuracies):
            scored = {"accuracy": accuracy, "predictions": predictions(accuracy, label=2)}
            path = self.fit_path(cell, seed)
            fit = json.loads(path.read_text())
            fit["extra"] = fit.get("extra", {}) | {name: scored}
            path.write_text(json.dumps(fit))

    def summary(self) -> Summary:
        """Return the report's text, its files left unwritten."""
        return summarise(read_run(self.run_dir))

    def fit_path(self, cell: str, seed: int) -> Path:
        """Where a final fit is written."""
        return self.run_dir / "final_fits" / f"{cell.replace('/', '-')}-{seed}.json"


def predictions(accuracy: float, label: int = 1) -> list[int]:
    """Return the classes predicted for the test images: right for the first of them."""
    right = round(accuracy * IMAGES)
    return [label] * right + [0] * (IMAGES - right)
