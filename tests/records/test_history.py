"""The journal: later events overrule earlier ones, and a crash costs one line at most."""

from __future__ import annotations

import json
import math

import pytest

from records import Cell, RunHistory, TrialEnded, TrialPaused, read_journal
from tests.report.run_writer import RunWriter

TEN = Cell(10, "llrd")


def read(writer: RunWriter) -> RunHistory:
    return RunHistory.of(read_journal(writer.run_dir / "events.jsonl"))


def test_trial_keeps_the_values_of_its_best_score(writer: RunWriter) -> None:
    writer.trial("10/llrd", 3, [0.5, 0.9, 0.7])
    trial = read(writer).trials[TEN, 3]
    assert (trial.val_accuracy, trial.val_loss) == (0.9, pytest.approx(0.1))
    assert (trial.samples, trial.seconds, trial.status) == (300, 1.5, "completed")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_torn_last_line_is_ignored(finished: RunWriter, cut: int) -> None:
    whole = read(finished)
    finished.flush(tail=json.dumps({"time": 1.0, "event": "footnote", "text": "é" * 40})[:cut])
    assert read(finished) == whole


def test_last_winner_wins(writer: RunWriter) -> None:
    writer.winner("10/llrd", 0.9, {"lr": 1e-3})
    writer.winner("10/llrd", 0.8, {"lr": 1e-4})
    winner = read(writer).winners[TEN]
    assert (winner.val_accuracy, winner.config) == (0.8, {"lr": 1e-4})


def test_trial_without_an_end_is_running(writer: RunWriter) -> None:
    writer.trial("10/llrd", 0, [0.5], status=None)
    assert read(writer).trials[TEN, 0].status == "running"


def test_paused_trial_is_taken_up_or_stopped(writer: RunWriter) -> None:
    for number in range(3):
        writer.trial("10/llrd", number, [0.5], status=None)
        writer.event(TrialPaused(TEN, number, 100))
    writer.trial("10/llrd", 1, [0.5, 0.6])
    writer.event(TrialEnded(TEN, 2, "stopped", ""))
    trials = read(writer).trials
    statuses = [trials[TEN, number].status for number in range(3)]
    assert statuses == ["paused", "completed", "stopped"]


def test_resumed_trial_runs_again_and_keeps_its_best(writer: RunWriter) -> None:
    writer.trial("10/llrd", 0, [0.5, 0.8], status="cut")
    writer.trial("10/llrd", 0, [0.5], status=None)
    trial = read(writer).trials[TEN, 0]
    assert (trial.status, trial.samples, trial.val_accuracy) == ("running", 200, 0.8)


def test_nan_score_never_becomes_the_best(writer: RunWriter) -> None:
    writer.trial("10/llrd", 0, [math.nan, 0.5, math.nan])
    writer.trial("10/llrd", 1, [math.nan])
    trials = read(writer).trials
    assert trials[TEN, 0].val_accuracy == 0.5
    assert math.isnan(trials[TEN, 1].val_accuracy)


def test_the_last_reason_of_a_final_fit_that_failed_is_kept(writer: RunWriter) -> None:
    writer.winner("10/llrd", 0.9, {"lr": 1e-3})
    writer.failed_fit("10/llrd", 1, "out of memory")
    writer.failed_fit("10/llrd", 1, "the fit diverged")
    writer.winner("10/llrd", 0.9, {"lr": 1e-3})  # resumed: the winner is still the same
    assert read(writer).failed_fits == {(TEN, 1): "the fit diverged"}


def test_what_failed_of_another_winner_is_of_no_matter(writer: RunWriter) -> None:
    writer.winner("10/llrd", 0.8, {"lr": 1e-3})
    writer.winner("1/llrd", 0.8, {"lr": 1e-3})
    writer.failed_fit("10/llrd", 1, "the fit diverged")
    writer.failed_fit("1/llrd", 1, "the fit diverged")
    writer.winner("10/llrd", 0.9, {"lr": 1e-4})  # an extended run found a better one
    assert read(writer).failed_fits == {(Cell(1, "llrd"), 1): "the fit diverged"}


def test_footnotes_are_told_once_in_order(finished: RunWriter) -> None:
    assert read(finished).footnotes == ["pack: 2 images are twins", "budget was short"]
