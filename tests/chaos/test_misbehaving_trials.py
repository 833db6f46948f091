"""Trials that hang, die, raise or diverge: each is told, and the others go on."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import ray

from data import LostFeaturesError
from errors import InputError
from records import Cell, JournalWriter, TrialReport
from tests.runs.helpers import events
from tests.tune.search.simulated import ZEROS, a_report, experiment
from tune.search.search import Search
from tune.storage.storage import Storage
from tune.trials.checkpoints import KeptCheckpoints
from tune.trials.trainable import SuffixTrial
from tune.trials.tuner import run_tuner
from tune.workers.machines import UnfitMachineError
from tune.workers.placement import Placement

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
HANGS, DIES_ONCE, RAISES, DIVERGES = range(1, 5)
TRIALS = 7


def searched(
    folder: Path,
    trainable: type[SuffixTrial],
    context: Any,
    trials: int = TRIALS,
    slots: int = 2,
    patience: float = math.inf,
) -> Search:
    """Search one cell by trials of a kind, which get `context` in place of a run's."""
    spec = experiment(methods={"zeros": ZEROS}, partitions=(100,), scheduler="none", trials=trials)
    with contextlib.closing(JournalWriter(folder / "events.jsonl")) as journal:
        search = Search(spec, journal, {100: 1})
        run_tuner(
            search,
            context,
            checkpoints=KeptCheckpoints(Storage.at(folder / "checkpoints"), search),
            scratch=folder / "ray",
            placement=Placement({"CPU": 1}),
            slots=slots,
            spare=0,
            callbacks=[],
            patience=patience,
            trainable=trainable,
        )
    return search


class Misbehaving(SuffixTrial):
    """Scores without training; some numbers do what no trial should."""

    def _context(self) -> Any:
        return ray.get(self._handle)  # a folder's name

    def _step(self, context: Any) -> TrialReport:
        folder = Path(context)
        number = self._asked["number"]
        self._milestone += 30
        if self._milestone == 60:  # after its first report
            with (folder / f"tries-{number}").open("a") as file:
                file.write("x")
            first = (folder / f"tries-{number}").stat().st_size == 1
            if number == HANGS:
                time.sleep(1e6)
            if number == DIES_ONCE and first:
                os.kill(os.getpid(), signal.SIGKILL)
            if number == RAISES:
                raise RuntimeError("no more of this\nplease")
        score = float("nan") if number == DIVERGES else 0.1 * number
        return a_report(self._milestone, score)


@pytest.mark.timeout(300)  # a hung trial is not waited for
def test_misbehaving_trials_are_told_and_the_group_goes_on(tmp_path: Path) -> None:
    search = searched(tmp_path, Misbehaving, str(tmp_path), patience=2.0)
    (cell,) = search.cells.values()
    ends = {e["trial"]: (e["status"], e["reason"]) for e in events(tmp_path, "trial_ended")}
    assert ends == {
        **dict.fromkeys(range(TRIALS), ("completed", "")),
        HANGS: ("failed", "no report for 2 s (resources.report_seconds); see Ray's logs"),
        RAISES: ("failed", "RuntimeError: no more of this please; see Ray's logs"),
        DIVERGES: ("diverged", "loss is not finite"),
    }
    tries = {n: (tmp_path / f"tries-{n}").stat().st_size for n in range(TRIALS) if n != DIVERGES}
    assert tries == {**dict.fromkeys(tries, 1), HANGS: 3, RAISES: 3, DIES_ONCE: 2}
    winner = search.winners()[Cell(100, "zeros")]
    assert winner.trial == TRIALS - 1  # scores rise with the number
    assert cell.finished


class Unlucky(SuffixTrial):
    """Fails twice; its third try, the last, meets two unfit machines, one after the other."""

    def _context(self) -> Any:
        return ray.get(self._handle)  # a file's name

    def _step(self, context: Any) -> TrialReport:
        with Path(context).open("a") as file:
            file.write("x")
        tries = Path(context).stat().st_size
        if tries <= 2:
            raise RuntimeError("not yet")
        if tries <= 4:
            raise UnfitMachineError(f"{tries}" * 56, "10.0.0.7", "no image")
        self._milestone += 90
        return a_report(self._milestone, 0.5)


def test_unfit_machines_take_no_try_of_a_trial(tmp_path: Path) -> None:
    searched(tmp_path, Unlucky, str(tmp_path / "tries"), trials=1, slots=1)
    (ended,) = events(tmp_path, "trial_ended")
    assert (ended["status"], ended["reason"]) == ("completed", "")
    assert (tmp_path / "tries").stat().st_size == 5


class Lost(SuffixTrial):
    """Meets damaged features."""

    def _context(self) -> Any:
        return None

    def _step(self, context: Any) -> TrialReport:
        raise LostFeaturesError("features.cache: a.safetensors is damaged: --resume")


def test_damaged_features_end_a_search_in_one_line_and_no_trial(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^features.cache: a.safetensors .*: --resume$"):
        searched(tmp_path, Lost, None)
    assert list(events(tmp_path, "trial_ended")) == []
