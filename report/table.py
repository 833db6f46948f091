"""The tables as data: one row per cell, and one row per trial."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_type_hints

import pandas as pd

from partitions import Partition, named
from records import AccuracyRow, TrialRow, set_columns
from report.device_seconds import cost_of
from report.run import Run
from report.winners import mean_of_known
from text import cell

_PANDAS_TYPES = {
    float: "float",
    float | None: "float",
    int: "int",
    int | None: "Int64",
    str: "object",
    str | None: "object",
    bool: "bool",
    Partition: "object",
}


def accuracy_table(run: Run) -> pd.DataFrame:
    """Return one row per cell, in the experiment's order; unknown values are empty.

    Accuracies are fractions. The `test_ci95` columns are half-widths of 95% confidence intervals:
    from both sources, from seeds and from images. `alpha` is a mean over seeds, `ema` a share of
    them. `best` marks the method that validation chooses for its partition. Every further test set
    adds two columns, and several encoders a column `encoder`.
    """
    rows = [_accuracy_row(run, *cell)._asdict() | _extra_tests(run, *cell) for cell in run.cells()]
    if run.parts:
        for row in rows:
            row["encoder"], row["method"] = row["method"].split("/")
    types = {name: _PANDAS_TYPES[hint] for name, hint in get_type_hints(AccuracyRow).items()}
    for name in run.extra_tests:
        types |= dict.fromkeys(set_columns(name), "float")
    columns = [*types]
    if run.parts:
        columns.insert(1, "encoder")
    return pd.DataFrame(rows, columns=columns).astype(types)


def trials_table(run: Run) -> pd.DataFrame:
    """Return one row per trial: first of the experiment's cells, then of cells it lost."""
    order = {cell: place for place, cell in enumerate(run.cells())}
    trials = sorted(
        run.history.trials.values(), key=lambda t: (order.get(t.cell, len(order)), t.number)
    )
    rows = [
        TrialRow(
            partition=trial.cell.partition,
            method=trial.cell.method,
            trial=trial.number,
            status=trial.status,
            samples=trial.samples,
            val_accuracy=round(trial.val_accuracy, 6),
            val_loss=round(trial.val_loss, 6),
            seconds=round(trial.seconds, 3),
            origin=trial.origin,
            reason=trial.reason,
            config=_as_json(trial.config),
        )
        for trial in trials
    ]
    return pd.DataFrame(rows, columns=list(TrialRow._fields))


def to_csv(table: pd.DataFrame, float_format: str | None = None) -> str:
    """Write a table as CSV, with partitions as `10` or `4shot`, and no text as a formula."""
    partitions = table["partition"].map(named)
    safe = table.map(lambda value: cell(value) if isinstance(value, str) else value)
    return safe.assign(partition=partitions).to_csv(index=False, float_format=float_format)


def _accuracy_row(run: Run, partition: Partition, method: str) -> AccuracyRow:
    winner = run.winner(partition, method)
    scores = run.scores(partition, method)
    test = scores.interval() if scores else None
    cost = cost_of(run, partition, method)
    fits = run.final_fits(partition, method)
    trials = run.trials(partition, method)
    return AccuracyRow(
        partition=partition,
        method=method,
        n_train=fits[0].n_train if fits else None,
        n_val=fits[0].n_val if fits else None,
        val_accuracy=winner.val_accuracy if winner else None,
        test_accuracy=test.mean if test else None,
        test_ci95=test.half_width if test else None,
        seeds=len(fits),
        trials=len(trials),
        trials_stopped_early=sum(trial.status == "stopped" for trial in trials),
        config=_as_json(winner.config) if winner else None,
        test_ci95_seeds=test.seeds if test else None,
        test_ci95_images=test.images if test else None,
        search_seconds=cost.search,
        final_seconds=cost.final,
        saved_seconds=cost.saved,
        alpha=mean_of_known(fit.alpha for fit in fits),
        ema=mean_of_known(fit.ema for fit in fits),
        best=run.best.get(partition) == method,
    )


def _extra_tests(run: Run, partition: Partition, method: str) -> dict[str, float | None]:
    cells: dict[str, float | None] = {}
    for name in run.extra_tests:
        if scores := run.scores(partition, method, name):
            interval = scores.interval()
            cells |= zip(set_columns(name), (interval.mean, interval.half_width), strict=True)
    return cells


def _as_json(config: Mapping[str, Any]) -> str:
    return json.dumps(config, sort_keys=True)
