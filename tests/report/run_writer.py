"""A run's directory written by hand, as the search would write it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from records import (
    DUPLICATES,
    Cell,
    Event,
    FinalFitFailed,
    Kind,
    SetScore,
    TrialEnded,
    TrialReported,
    TrialStarted,
    Winner,
    final_fit_path,
    write_final_fit,
)
from records.final_fit import read_final_fit
from records.journal import journal_line
from report.run import read_run
from report.summary import Summary, summarise
from report.table import accuracy_table
from tests.records.results import a_result
from tests.tune.search.simulated import a_report

IMAGES = 100  # of a test set: all of class 1 in the test split, of class 2 in others
PROBE = {"blocks": "none", "head_lr": 0.01, "weight_decay": 1e-4, "batch_size": 64}
TUNED = {"blocks": "11-7", "kinds": "ln+attn", "lr": 3e-4, "llrd_decay": 0.75, "batch_size": 64}


class RunWriter:
    """Writes a run's files as the search would."""

    def __init__(self, run_dir: Path) -> None:
        self.run_dir = run_dir
        (run_dir / "final_fits").mkdir(parents=True)
        self.events: list[Event] = []
        self.validation: dict[str, float] = {}

    def experiment(self, methods: Sequence[str], partitions: Sequence[float], **more: Any) -> None:
        """Write `experiment.yaml`."""
        content = {"data": {"partitions": [*partitions]}, "methods": {m: {} for m in methods}}
        text = yaml.safe_dump(content | more | {"identity": {}}, sort_keys=False)
        (self.run_dir / "experiment.yaml").write_text(text)
        self.flush()

    def event(self, event: Event) -> None:
        """Append an event to the journal."""
        self.events.append(replace(event, time=1.7e9 + len(self.events)))
        self.flush()

    def flush(self, tail: str = "") -> None:
        """Write the journal, with a torn last line if asked for one."""
        lines = "".join(map(journal_line, self.events))
        (self.run_dir / "events.jsonl").write_text(lines + tail)

    def trial(
        self, cell: str, number: int, curve: Sequence[float], status: str | None = "completed"
    ) -> None:
        """Append a trial with a validation accuracy every 100 samples; without status it runs."""
        trial = Cell.parse(cell), number
        config = PROBE if trial[0].method == "frozen" else TUNED
        self.event(TrialStarted(*trial, "sampler", config, None))
        for step, accuracy in enumerate(curve, start=1):
            report = a_report(100 * step, accuracy, val_loss=1 - accuracy, seconds=0.5 * step)
            self.event(TrialReported(*trial, report))
        if status:
            self.event(TrialEnded(*trial, status, ""))

    def winner(self, cell: str, val_accuracy: float, config: Mapping[str, Any]) -> None:
        """Append a winner, of the kind that its configuration looks like.

        Final fits written after it have its validation accuracy: the first images are right.
        """
        self.validation[cell] = val_accuracy
        tuned = config.get("blocks", "none") != "none"
        untrained = not config or config.get("solver") == "none"
        kind: Kind = "zero_shot" if untrained else "tuned" if tuned else "probe"
        settings = dict(config)
        self.event(Winner(Cell.parse(cell), 0, val_accuracy, 90, kind, settings, settings, None))

    def final_fits(self, cell: str, test_accuracies: Sequence[float], **more: Any) -> None:
        """Write a cell's final fits, seeds counted from 0; the first images are right.

        A cell without a winner gets one first, as no run has final fits without.
        """
        method = Cell.parse(cell).method
        if not any(isinstance(e, Winner) and str(e.cell) == cell for e in self.events):
            probe = method in ("zero_shot", "frozen")
            self.winner(cell, self.validation.get(cell, 0.5), PROBE if probe else TUNED)
        for seed, accuracy in enumerate(test_accuracies):
            scores = {"test": SetScore(accuracy, predictions(accuracy))}
            moved = 0.0 if method == "frozen" else 0.031
            fields = {"tests": scores, "weight_distance": moved, **self._validated(cell), **more}
            write_final_fit(self.run_dir, a_result(Cell.parse(cell), seed, **fields))

    def _validated(self, cell: str) -> dict[str, Any]:
        accuracy = self.validation.get(cell, 0.5)
        right = round(360 * accuracy)
        return {"val_accuracy": accuracy, "val_correct": [1.0] * right + [0.0] * (360 - right)}

    def edit_fit(self, cell: str, seed: int, **changes: Any) -> None:
        """Change fields of one final fit."""
        fit = read_final_fit(self.fit_path(cell, seed))
        write_final_fit(self.run_dir, replace(fit, **changes))

    def failed_fit(self, cell: str, seed: int, reason: str) -> None:
        """Append a final fit that failed, and remove what it had come to before."""
        self.event(FinalFitFailed(Cell.parse(cell), seed, reason))
        self.fit_path(cell, seed).unlink(missing_ok=True)

    def test_images(self, *extra: str, burst: int | None = None) -> None:
        """Write `test_images.csv`, for the test split and further sets of as many images.

        With `burst`, every `burst` images of the test split are a group.
        """
        rows = [
            f"{name},{i}.png,{1 if name == 'test' else 2}"
            + ("" if burst is None else f",{f'b{i // burst}' if name == 'test' else ''}")
            for name in ("test", *extra)
            for i in range(IMAGES)
        ]
        header = "set,key,label" + ("" if burst is None else ",group")
        (self.run_dir / "test_images.csv").write_text("\n".join([header, *rows, ""]))
        DUPLICATES.write(self.run_dir, ())

    def extra_scores(self, name: str, cell: str, accuracies: Sequence[float]) -> None:
        """Add scores on a further test set to a cell's final fits."""
        for seed, accuracy in enumerate(accuracies):
            score = SetScore(accuracy, predictions(accuracy, label=2))
            tests = read_final_fit(self.fit_path(cell, seed)).tests
            self.edit_fit(cell, seed, tests=tests | {name: score})

    def table(self) -> pd.DataFrame:
        """Return the table as data, its file left unwritten."""
        return accuracy_table(read_run(self.run_dir))

    def summary(self) -> Summary:
        """Return the report's text, its files left unwritten."""
        return summarise(read_run(self.run_dir))

    def fit_path(self, cell: str, seed: int) -> Path:
        """Where a final fit is written."""
        return final_fit_path(self.run_dir, Cell.parse(cell), seed)


def predictions(accuracy: float, label: int = 1) -> list[int]:
    """Return the classes predicted for the test images: right for the first of them."""
    right = round(accuracy * IMAGES)
    return [label] * right + [0] * (IMAGES - right)
