from __future__ import annotations

import sys
from pathlib import Path

import optuna
import pytest
import yaml
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from errors import InputError
from records import TrialStarted, read_journal
from report.optuna import main, write_studies
from tests.tune.search.simulated import LLRD, ZEROS, Simulation, experiment, rough


def a_run(folder: Path, reports: int | None = None, **options: object) -> Simulation:
    """A run's directory after a search, or after its first reports."""
    spec = experiment(methods={"llrd": LLRD | {"space": {**LLRD["space"], "head_start": "zeros"}},
                               "zeros": ZEROS}, **{"trials": 7, **options})  # fmt: skip
    (folder / "experiment.yaml").write_text(yaml.safe_dump(spec.resolved()))
    return Simulation(spec, folder / "events.jsonl", rough, slots=3).run(reports)


def studies(file: Path) -> dict[str, list[optuna.trial.FrozenTrial]]:
    storage = JournalStorage(JournalFileBackend(str(file)))
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage).trials for name in names}


STATES = {
    **{"completed": "COMPLETE", "stopped": "PRUNED", "diverged": "PRUNED", "failed": "FAIL"},
    **{"paused": "RUNNING", "running": "RUNNING"},
}


@pytest.mark.parametrize("reports", [None, 5, 20])
def test_optuna_reads_what_the_search_knows(tmp_path: Path, reports: int | None) -> None:
    simulation = a_run(tmp_path, reports)
    found = studies(write_studies(tmp_path))
    begun = {str(cell): state for cell, state in simulation.search.cells.items() if state.trials}
    assert found.keys() == begun.keys()
    for name, state in begun.items():
        assert len(found[name]) == len(state.trials)
        for number, trial in state.trials.items():
            shown = found[name][number]
            assert shown.state.name == STATES[state.status(number)]
            assert shown.params == state.searched(trial.config)
            assert shown.intermediate_values == trial.reports
            if shown.state.name == "COMPLETE":
                assert shown.value == trial.score


def test_times_are_those_of_the_journal(tmp_path: Path) -> None:
    a_run(tmp_path)
    started = {
        (str(event.cell), event.trial): event.time
        for event in reversed(read_journal(tmp_path / "events.jsonl"))
        if isinstance(event, TrialStarted)
    }
    for name, trials in studies(write_studies(tmp_path)).items():
        for trial in trials:
            assert trial.datetime_start
            assert trial.datetime_start.timestamp() == pytest.approx(started[name, trial.number])
            assert trial.datetime_complete
            assert trial.datetime_complete >= trial.datetime_start


def test_a_stopped_trial_is_never_the_best(tmp_path: Path) -> None:
    a_run(tmp_path)
    storage = JournalStorage(JournalFileBackend(str(write_studies(tmp_path))))
    best = optuna.load_study(study_name="1/llrd", storage=storage).best_trial
    assert best.state.name == "COMPLETE"


def test_a_second_call_replaces_what_the_first_wrote(tmp_path: Path) -> None:
    a_run(tmp_path, reports=9)
    write_studies(tmp_path)
    whole = a_run(tmp_path)
    found = studies(write_studies(tmp_path))
    cells = whole.search.cells.items()
    assert {name: len(trials) for name, trials in found.items()} == {
        str(cell): len(state.trials) for cell, state in cells
    }
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith("optuna")) == [
        "optuna.journal"
    ]


def test_a_run_resumed_with_fewer_methods_has_studies_of_those_alone(tmp_path: Path) -> None:
    a_run(tmp_path)
    fewer = experiment(methods={"zeros": ZEROS}, trials=7)
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(fewer.resolved()))
    assert studies(write_studies(tmp_path)).keys() == {"1/zeros", "100/zeros"}


def test_the_command_says_how_to_see_the_studies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a_run(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report.optuna", str(tmp_path)])
    assert main() == 0
    assert f"optuna-dashboard {tmp_path / 'optuna.journal'}" in capsys.readouterr().out


def test_a_folder_without_a_run_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=r"holds no run: it has no events\.jsonl"):
        write_studies(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report.optuna", str(tmp_path)])
    assert main() == 2
    assert capsys.readouterr().err.startswith("error: ")
