"""Heads of probes: solved once for all processes, read to the last digit, never another's."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import pytest
import torch

from models.fit import Fit
from models.head import LinearHead
from records import Cell, is_probe_head
from tests.runs.helpers import small
from tests.tune.trials.contexts import random_context
from tune.storage.storage import Storage
from tune.trials.probe_heads import KeptHead
from tune.trials.trial_context import TrialContext, _probe_head

PROBE = {"blocks": "none", "solver": "lbfgs", "weight_decay": (1e-3,)}
TUNED = {"blocks": "final", "head_start": "probe"}
CELL = Cell(100, "llrd")
SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrialContext:
    """Random features, without Ray."""
    return random_context(monkeypatch, ("final", "head"), kept_heads=Storage.at(tmp_path / "kept"))[
        0
    ]


@pytest.fixture
def solves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grow with every solution."""
    counted: list[int] = []
    solve = Fit._solve

    def counting(fit: Fit, solver: Any) -> None:
        counted.append(1)
        solve(fit, solver)

    monkeypatch.setattr(Fit, "_solve", counting)
    return counted


def started(context: TrialContext, seed: int = 0, **probe: Any) -> torch.Tensor:
    """The head that a fit starts from in a process that has made none before."""
    _probe_head.cache_clear()
    return context.fit(CELL, TUNED, {**PROBE, **probe}, seed).model.head.weight.detach().clone()


def files(context: TrialContext) -> list[Path]:
    assert context.kept_heads is not None
    return [*Path(context.kept_heads.path).iterdir()]


def test_a_probe_is_solved_once_for_all_processes(context: TrialContext, solves: list[int]) -> None:
    alone = dataclasses.replace(context, kept_heads=None)
    for seed in (0, 1):
        heads = [started(context, seed) for _ in range(3)]
        assert all(torch.equal(head, started(alone, seed)) for head in heads)
    assert len(solves) == 2 + 6  # the latter without a folder
    assert len(files(context)) == 2
    assert all(is_probe_head(path.name) for path in files(context))


@pytest.mark.parametrize(
    "changed",
    [
        lambda context: dataclasses.replace(context, run_fingerprint="other data"),
        lambda context: dataclasses.replace(context, precision="bfloat16"),
        lambda context: dataclasses.replace(context, experiment=small("seed=1")),
        lambda context: dataclasses.replace(context, experiment=small("search.val_images=9")),
        lambda context: dataclasses.replace(context, experiment=small("metric=log_loss")),
    ],
)
def test_another_runs_head_is_not_taken(
    context: TrialContext, changed: Callable[[TrialContext], TrialContext], solves: list[int]
) -> None:
    started(context)
    started(changed(context))
    started(context, label_smoothing=0.1)
    assert len(solves) == 3


@pytest.mark.parametrize("place", [0, 8, 100, -5, -1])
def test_a_damaged_head_is_solved_again(
    context: TrialContext, place: int, solves: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    whole = started(context)
    (file,) = files(context)
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    for damaged in (bytes(content), bytes(content[:-7]), b"12", b""):
        file.write_bytes(damaged)
        assert torch.equal(started(context), whole)
        assert "damaged" in caplog.text
        caplog.clear()
    assert len(solves) == 5
    started(context)
    assert len(solves) == 5  # the file is whole again


def test_a_head_under_another_ones_name_is_not_taken(
    context: TrialContext, solves: list[int]
) -> None:
    started(context)
    (first,) = files(context)
    other = started(context, seed=1)
    (second,) = {*files(context)} - {first}
    second.write_bytes(first.read_bytes())
    assert torch.equal(started(context, seed=1), other)
    assert len(solves) == 3


def test_without_a_place_to_write_to_every_process_solves(
    context: TrialContext, tmp_path: Path, solves: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "kept").write_text("no folder")
    assert torch.equal(started(context), started(context))
    assert len(solves) == 2
    assert "not written" in caplog.text


def _take(folder: Path, mine: Event, others: Event) -> None:
    """Take a head; solve for it, if need be, no sooner than the other process takes it, too."""
    mine.set()

    def solve() -> LinearHead:
        others.wait()
        with (folder / "solves").open("a") as file:
            file.write("solved\n")
        return LinearHead(torch.ones(2, 3), torch.ones(2))

    head = KeptHead(Storage.at(folder), "key").solved(solve)
    assert head is not None
    assert torch.equal(head.weight, torch.ones(2, 3))


def test_of_two_processes_at_once_one_solves(tmp_path: Path) -> None:
    one, two = SPAWN.Event(), SPAWN.Event()
    processes = [SPAWN.Process(target=_take, args=(tmp_path, *e)) for e in ((one, two), (two, one))]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert (tmp_path / "solves").read_text() == "solved\n"
