"""Cost: every device-second is counted once, and what was saved is what was not run."""

from __future__ import annotations

import pytest

from records import Cell, TrialPaused
from report import write_report
from report.device_seconds import Cost, cost_of
from report.run import read_run
from tests.report.run_writer import RunWriter


def test_cost_of_a_group_by_hand(writer: RunWriter) -> None:
    writer.experiment(["frozen", "llrd"], [1, 10])
    writer.trial("10/llrd", 0, [0.5] * 4)  # 400 samples, 2 s
    writer.trial("10/llrd", 1, [0.5], status="stopped")  # 100 samples, 0.5 s: 300 saved, 1.5 s
    writer.trial("10/llrd", 2, [], status="failed")
    writer.trial("10/llrd", 3, [0.5, 0.5], status="cut")  # 200 samples, 1 s; not stopped for a rung
    writer.trial("1/llrd", 0, [0.5], status="stopped")  # the horizon is the method's
    writer.trial("1/frozen", 0, [0.5] * 9)
    writer.final_fits("10/llrd", [0.5, 0.5])  # 3.2 s each
    run = read_run(writer.run_dir)
    assert cost_of(run, 10, "llrd") == Cost(search=3.5, final=6.4, saved=1.5)
    assert cost_of(run, 1, "llrd") == Cost(search=0.5, final=0, saved=1.5)
    assert cost_of(run, 10, "frozen") == Cost()


def test_rows_and_notes_add_up(finished: RunWriter) -> None:
    report = write_report(finished.run_dir)
    table = finished.table()
    # 5 trials of 1.5 s, and one of 0.5 s stopped after 100 of 300 samples; 13 fits of 3.2 s
    assert table.search_seconds.sum() == pytest.approx(8.0)
    assert table.final_seconds.sum() == pytest.approx(41.6)
    assert table.saved_seconds.sum() == pytest.approx(1.0)
    assert report.seconds == ["27", "23"]
    notes = report.notes
    assert "Trials took 8 device-seconds and final fits 42; features are not counted" in notes
    assert "Early stopping saved 11% of the search's device-seconds" in notes


def test_nothing_saved_has_no_note(writer: RunWriter) -> None:
    writer.experiment(["frozen"], [10])
    writer.trial("10/frozen", 0, [0.5])
    writer.trial("10/frozen", 1, [], status="stopped")
    summary = writer.summary()
    assert not any("arly stopping" in line for line in summary.notes)
    assert summary.seconds == ["0.5"]


def test_paused_trials_are_counted(writer: RunWriter) -> None:
    writer.experiment(["frozen"], [10])
    writer.trial("10/frozen", 0, [0.5], status=None)
    writer.event(TrialPaused(Cell(10, "frozen"), 0, 100))
    counts = "stopped early: 0, failed: 0, paused: 1"
    assert f"The search made 1 trial ({counts}; see trials.csv)" in writer.summary().notes
