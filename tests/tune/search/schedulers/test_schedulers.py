"""The registry of schedulers, their rungs, and a scheduler that somebody adds."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InputError
from records import Cell
from search_spaces import SearchConfig, load_experiment
from search_spaces.schedulers import SETTINGS, AshaConfig, HyperbandConfig
from tests.tune.search.simulated import Simulation, smooth
from tune.search.schedulers import SCHEDULERS, milestones, new_scheduler, rung_milestones

factors, counts = st.integers(2, 5), st.integers(1, 10)
searches = st.builds(
    SearchConfig,
    evaluations=st.integers(1, 12),
    scheduler=st.sampled_from(sorted(SCHEDULERS)),
    asha=st.builds(AshaConfig, rungs=counts, reduction_factor=factors),
    hyperband=st.builds(HyperbandConfig, rungs=counts, reduction_factor=factors),
)
horizons = st.integers(1, 10**7)


def test_every_scheduler_has_settings() -> None:
    assert SCHEDULERS.keys() == SETTINGS.keys()


@given(searches, horizons)
def test_milestones_increase_to_the_horizon(search: SearchConfig, horizon: int) -> None:
    points = milestones(horizon, search, 0)
    assert list(points) == sorted(set(points))
    assert points[0] > 0
    assert points[-1] == horizon


@given(searches, horizons)
def test_every_rung_is_a_milestone(search: SearchConfig, horizon: int) -> None:
    found = rung_milestones(horizon, search, 0)
    assert set(found) <= set(milestones(horizon, search, 0))
    assert found[-1] == horizon
    assert list(found) == sorted(set(found))
    assert len(found) <= getattr(search.settings, "rungs", 1)


@given(searches, st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_rung_that_comes_before_the_images_were_seen_does_not_judge(
    search: SearchConfig, horizon: int, images: int
) -> None:
    every = rung_milestones(horizon, search, 0)
    found = rung_milestones(horizon, search, images)
    assert found == every[len(every) - len(found) :]  # the last ones
    assert len(found) >= min(2, len(every))  # one that judges, if there is any
    enough = getattr(search.settings, "epochs", 0) * images
    assert all(rung >= enough for rung in found[:-2])
    assert not [rung for rung in every if rung >= enough and rung not in found]


@given(searches, horizons)
def test_what_is_solved_for_is_evaluated_once(search: SearchConfig, horizon: int) -> None:
    assert milestones(horizon, search, 0, trained=False) == (horizon,)


def test_rungs_and_evaluations_of_a_round_horizon() -> None:
    assert rung_milestones(90, SearchConfig(), 0) == (10, 30, 90)
    assert milestones(90, SearchConfig(), 0) == (10, 30, 60, 90)
    assert milestones(90, SearchConfig(scheduler="none", evaluations=2), 0) == (45, 90)


@pytest.mark.parametrize("judged_from", [0, 30])
def test_without_a_scheduler_every_trial_goes_on(judged_from: int) -> None:
    cell = new_scheduler(SearchConfig(transfer=1, scheduler="none"), 90, 3, 0)
    for trial in range(3):
        cell.start(trial, judged_from)
        for milestone in (10, 30, 90):
            cell.record(milestone, trial, trial / 10)
            assert not cell.waits(trial)
    assert (cell.promotable(), cell.hopeless()) == (None, [])


# A scheduler that somebody adds, as docs/architecture.md shows it

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "architecture.md"

SPACE = """
data: {source: digits, partitions: [1]}
search: {trials: 12, samples: 90, epochs: 90, scheduler: median, median: {share: 0.3}}
methods: {zeros: {space: {blocks: "11", head_start: zeros, lr: {loguniform: [1e-5, 1e-2]}}}}
"""


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Path]:
    """A search space that names a scheduler which a file of its own has added."""
    file = tmp_path / "median_scheduler.py"
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    (source,) = (block for block in blocks if 'register("median"' in block)
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("median_scheduler", file)
    assert spec
    assert spec.loader
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
    (tmp_path / "space.yaml").write_text(SPACE)
    yield tmp_path / "space.yaml"
    del SCHEDULERS["median"], SETTINGS["median"]


def test_a_scheduler_in_a_file_of_its_own_runs_a_search(toy: Path) -> None:
    simulation = Simulation(load_experiment(toy), toy.with_name("events.jsonl"), smooth)
    simulation.run()
    simulation.check_finished()
    state = simulation.search.cells[Cell(1, "zeros")]
    assert state.milestones == (27, 30, 60, 90)
    ends = [trial.ended for trial in state.trials.values()]
    assert ends.count("stopped") >= 3
    assert ends.count("completed") >= 3
    scores: list[float] = []
    for trial in list(state.trials.values())[1:]:  # one after the other; the default is not judged
        scores.append(trial.reports[27])
        assert (trial.ended == "stopped") == (scores[-1] < median(scores))


def test_a_search_with_it_is_resumed_from_anywhere(toy: Path, tmp_path: Path) -> None:
    spec, whole = load_experiment(toy), tmp_path / "whole.jsonl"
    expected = Simulation(spec, whole, smooth).run().outcome
    lines = whole.read_bytes().splitlines(keepends=True)
    for count in range(0, len(lines), 3):
        path = tmp_path / f"{count}.jsonl"
        path.write_bytes(b"".join(lines[:count]))
        assert Simulation(spec, path, smooth).run().outcome == expected, count


def test_its_settings_are_checked_as_others_are(toy: Path) -> None:
    with pytest.raises(
        InputError, match=r"search\.median\.share: 2 is too large\. Allowed: below 1"
    ):
        load_experiment(toy, ["search.median.share=2"])
    with pytest.raises(InputError, match=r"search\.median\.shares: unknown key; did you mean 'sh"):
        load_experiment(toy, ["search.median.shares=2"])
    with pytest.raises(InputError, match=r"'medan': unknown scheduler; did you mean 'median'\?"):
        load_experiment(toy, ["search.scheduler=medan"])
    kept = load_experiment(toy).resolved()["search"]
    assert kept["median"] == {"share": 0.3}
