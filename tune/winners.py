"""Which winner of a run is taken: its row, its column and its seed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from errors import InputError, did_you_mean
from partitions import Partition, titled
from records import BEST, WINNERS, Cell

if TYPE_CHECKING:
    from report.run import Run

NOT_KEPT = "weights are kept by final.export: true"


@dataclass(frozen=True)
class Choice:
    """What names a winner.

    Attributes:
        partition: the table's row; None for the last with results.
        method: the table's column; `best` for the one that validation chooses for the row.
        seed: the final fit's.
    """

    partition: Partition | None = None
    method: str = BEST
    seed: int = 0


@dataclass(frozen=True)
class Chosen:
    """A winner with one seed, the file of its weights, and the run that it is of."""

    run: Run
    cell: Cell
    seed: int
    weights: Path


def check_choice(run_dir: Path, choice: Choice) -> None:
    """Check what needs no more than the run's experiment.

    Raises:
        InputError: it is no run's directory, has no such row or column, or kept no weights.
    """
    from search_spaces.recorded import read_recorded

    experiment, _ = read_recorded(run_dir)
    encoders = [*experiment.models]
    columns = [f"{e}/{m}" for e in encoders for m in experiment.methods]
    rows, methods = experiment.data.amounts, (BEST, *(columns or experiment.methods))
    if choice.partition is not None and choice.partition not in rows:
        raise InputError(
            f"--partition, --shots: {run_dir} has no {titled(choice.partition)}; "
            f"allowed: {', '.join(map(titled, rows))}"
        )
    if choice.method not in methods:
        hint = did_you_mean(choice.method, methods)
        raise InputError(
            f"--method: {run_dir} has no {choice.method!r}; {hint}allowed: {', '.join(methods)}"
        )
    folders = [run_dir / name / WINNERS for name in encoders or ("",)]
    if not any(file for folder in folders for file in folder.glob("*.safetensors")):
        why = "--resume makes its final fits" if experiment.final.export else NOT_KEPT
        raise InputError(f"{run_dir} holds no weights: {why}")


def choose(run_dir: Path, choice: Choice) -> Chosen:
    """Find the winner that is named, which `check_choice` has checked.

    Raises:
        InputError: it has no final fit yet, or no weights with this seed.
    """
    from report.encoders import read_results  # pandas takes a second to import

    run = read_results(run_dir)
    rows = run.partitions if choice.partition is None else (choice.partition,)
    cells = [
        cell
        for partition in rows
        if (cell := _cell(run, partition, choice.method)) and run.final_fits(*cell)
    ]
    if not cells:
        where = "" if choice.partition is None else f" at {titled(choice.partition)}"
        raise InputError(f"{run_dir} has no final fits of {choice.method}{where} yet")
    cell = cells[-1]
    path = run.weights(cell, choice.seed)
    if not path.is_file() or choice.seed not in run.fits[cell]:
        seeds = [s for s in run.fits[cell] if run.weights(cell, s).is_file()]
        kept = f"allowed: {', '.join(map(str, seeds))}" if seeds else NOT_KEPT
        raise InputError(f"--seed: {run_dir} has no weights of {cell}, seed {choice.seed}; {kept}")
    from models.exported import check_origin

    check_origin(path, run.fits[cell][choice.seed].about)
    return Chosen(run, cell, choice.seed, path)


def _cell(run: Run, partition: Partition, method: str) -> Cell | None:
    """Return the cell of a row's column, where the row has one."""
    found = run.best.get(partition) if method == BEST else method
    return None if found is None or not run.winner(partition, found) else Cell(partition, found)
