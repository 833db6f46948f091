"""A report is made of a whole run, or refused in a line that names what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from errors import InputError
from records import Winner
from report import write_report
from tests.report.run_writer import RunWriter


def test_other_directories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not a run's directory: it has no events\.jsonl"):
        write_report(tmp_path)


def test_unknown_gain_is_refused(finished: RunWriter) -> None:
    finished.experiment(["frozen", "llrd"], [1], report={"gain": "lrd"})
    with pytest.raises(InputError, match=r"report\.gain is 'lrd', not one of frozen, llrd"):
        write_report(finished.run_dir)


def test_a_journal_without_the_winner_of_a_final_fit_is_refused(finished: RunWriter) -> None:
    finished.events = [event for event in finished.events if not isinstance(event, Winner)]
    finished.flush()
    with pytest.raises(InputError, match=r"events\.jsonl lacks the winner of 1/frozen"):
        write_report(finished.run_dir)


def test_half_an_experiment_is_refused(finished: RunWriter) -> None:
    path = finished.run_dir / "experiment.yaml"
    path.write_text(path.read_text().replace("identity: {}\n", ""))
    with pytest.raises(InputError, match=r"experiment\.yaml is damaged, or of no run"):
        write_report(finished.run_dir)


@pytest.mark.parametrize("more", [{"report": "x"}, {"final": [3]}, {"data": 1}])
def test_sections_that_are_none_are_refused(finished: RunWriter, more: dict[str, Any]) -> None:
    finished.experiment(["frozen", "llrd"], [1], **more)
    with pytest.raises(InputError, match=r"experiment\.yaml is damaged, or of no run"):
        write_report(finished.run_dir)


def test_incomplete_final_fit_is_named(finished: RunWriter) -> None:
    (finished.run_dir / "final_fits" / "1-odd-seed0.json").write_text('{"partition": 1}')
    with pytest.raises(
        InputError,
        match=r"1-odd-seed0\.json is not the result of a final fit: it has no method, seed",
    ):
        write_report(finished.run_dir)


def test_labels_that_are_not_those_it_was_scored_by_are_refused(finished: RunWriter) -> None:
    finished.test_images()
    write_report(finished.run_dir)
    path = finished.run_dir / "test_images.csv"
    path.write_text(path.read_text().replace("test,7.png,1", "test,7.png,2"))
    with pytest.raises(InputError, match=r"^1/frozen, seed 0: accuracy 0.76.* on test, but 0.75"):
        write_report(finished.run_dir)
