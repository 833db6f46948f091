from __future__ import annotations

from pathlib import Path

import pytest

from tests.tune.search.simulated import ZEROS, Simulation, experiment
from tune.search.expected_samples import PLAYED, ExpectedSamples

PROBE = {"space": {"blocks": "none", "solver": "lbfgs", "weight_decay": {"choice": [0.1, 1, 10]}}}


@pytest.mark.parametrize("scheduler", ["none", "asha", "hyperband"])
@pytest.mark.parametrize("trials", [4, PLAYED, 4 * PLAYED])
def test_a_cell_takes_the_samples_that_its_scheduler_lets_its_trials_see(
    tmp_path: Path, scheduler: str, trials: int
) -> None:
    spec = experiment(methods={"zeros": ZEROS}, partitions=(1,), scheduler=scheduler, trials=trials)
    expected, path = ExpectedSamples(0), tmp_path / "events.jsonl"
    (fresh,) = Simulation(spec, path).search.cells.values()
    before = expected.left(fresh)
    (played,) = Simulation(spec, path).run().search.cells.values()
    assert before == pytest.approx(sum(t.samples for t in played.trials.values()), rel=0.1)
    assert expected.left(played) == 0


def test_a_head_that_is_solved_for_sees_its_samples_at_once(tmp_path: Path) -> None:
    spec = experiment(methods={"probe": PROBE}, partitions=(1,), trials=3)
    (cell,) = Simulation(spec, tmp_path / "events.jsonl").search.cells.values()
    assert ExpectedSamples(0).left(cell) == 3 * cell.horizon


def test_what_a_failed_trial_would_have_seen_is_not_waited_for(tmp_path: Path) -> None:
    spec = experiment(methods={"zeros": ZEROS}, partitions=(1,), scheduler="none", trials=4)
    search = Simulation(spec, tmp_path / "events.jsonl").search
    (cell,) = search.cells.values()
    proposal = search.propose()
    assert proposal
    expected = ExpectedSamples(0)
    assert expected.left(cell) == 4 * 90 - 15  # half-way to its first report
    search.end(proposal.cell, proposal.number, "failed", "its process died")
    assert expected.left(cell) == 3 * 90
