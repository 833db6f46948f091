"""Which winner of a run a command takes: its row, its column and its seed."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from commands.arguments import percentage, shots, whole
from errors import InputError, did_you_mean
from partitions import Partition, titled
from records import BEST, WINNERS, Cell

if TYPE_CHECKING:
    from report.run import Run

NOT_KEPT = "weights are kept by final.export: true"


@dataclass(frozen=True)
class Chosen:
    """A winner with one seed, the file of its weights, and the run that it is of."""

    run: Run
    cell: Cell
    seed: int
    weights: Path


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose a winner."""
    amount = parser.add_mutually_exclusive_group()
    amount.add_argument(
        "--partition",
        type=percentage,
        metavar="P",
        help="the table's row, in percent (default: the last with results)",
    )
    amount.add_argument(
        "--shots", type=shots, dest="partition", metavar="K", help="the row, in images of a class"
    )
    parser.add_argument(
        "--method",
        default=BEST,
        metavar="M",
        help="the table's column (default: best, as validation chooses it for the row)",
    )
    parser.add_argument("--seed", type=whole, default=0, metavar="S", help="the final fit's seed")


def check_choice(run_dir: Path, chosen: argparse.Namespace) -> None:
    """Check what needs no more than the run's experiment.

    Raises:
        InputError: it is no run's directory, has no such row or column, or kept no weights.
    """
    from search_spaces.recorded import read_recorded

    experiment, _ = read_recorded(run_dir)
    encoders = [*experiment.models]
    columns = [f"{e}/{m}" for e in encoders for m in experiment.methods]
    rows, methods = experiment.data.amounts, (BEST, *(columns or experiment.methods))
    if chosen.partition is not None and chosen.partition not in rows:
        raise InputError(
            f"--partition, --shots: {run_dir} has no {titled(chosen.partition)}; "
            f"allowed: {', '.join(map(titled, rows))}"
        )
    if chosen.method not in methods:
        hint = did_you_mean(chosen.method, methods)
        raise InputError(
            f"--method: {run_dir} has no {chosen.method!r}; {hint}allowed: {', '.join(methods)}"
        )
    folders = [run_dir / name / WINNERS for name in encoders or ("",)]
    if not any(file for folder in folders for file in folder.glob("*.safetensors")):
        why = "--resume makes its final fits" if experiment.final.export else NOT_KEPT
        raise InputError(f"{run_dir} holds no weights: {why}")


def choose(run_dir: Path, chosen: argparse.Namespace) -> Chosen:
    """Find the winner that the options name, which `check_choice` has checked.

    Raises:
        InputError: it has no final fit yet, or no weights with this seed.
    """
    from report.encoders import read_results  # pandas takes a second to import

    run = read_results(run_dir)
    rows = run.partitions if chosen.partition is None else (chosen.partition,)
    cells = [
        cell
        for partition in rows
        if (cell := _cell(run, partition, chosen.method)) and run.final_fits(*cell)
    ]
    if not cells:
        where = "" if chosen.partition is None else f" at {titled(chosen.partition)}"
        raise InputError(f"{run_dir} has no final fits of {chosen.method}{where} yet")
    cell = cells[-1]
    path = run.weights(cell, chosen.seed)
    if not path.is_file() or chosen.seed not in run.fits[cell]:
        seeds = [s for s in run.fits[cell] if run.weights(cell, s).is_file()]
        kept = f"allowed: {', '.join(map(str, seeds))}" if seeds else NOT_KEPT
        raise InputError(f"--seed: {run_dir} has no weights of {cell}, seed {chosen.seed}; {kept}")
    return Chosen(run, cell, chosen.seed, path)


def _cell(run: Run, partition: Partition, method: str) -> Cell | None:
    """Return the cell of a row's column, where the row has one."""
    found = run.best.get(partition) if method == BEST else method
    return None if found is None or not run.winner(partition, found) else Cell(partition, found)
