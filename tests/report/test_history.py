"""The journal: later events overrule earlier ones, and a crash costs one line at most."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from errors import InputError
from records.history import Journal, read_journal
from tests.report.run_writer import RunWriter


def read(writer: RunWriter) -> Journal:
    return read_journal(writer.run_dir / "events.jsonl")


def test_trial_keeps_the_values_of_its_best_score(writer: RunWriter) -> None:
    writer.trial("10/llrd", 3, [0.5, 0.9, 0.7])
    trial = read(writer).trials["10/llrd", 3]
    assert (trial.val_accuracy, trial.val_loss) == (0.9, pytest.approx(0.1))
    assert (trial.samples, trial.seconds, trial.status) == (300, 1.5, "completed")


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_torn_last_line_is_ignored(finished: RunWriter, cut: int) -> None:
    whole = read(finished)
    finished.flush(tail=json.dumps({"time": 1.0, "event": "footnote", "text": "é" * 40})[:cut])
    assert read(finished) == whole


def test_torn_line_before_a_resume_is_skipped_and_told(writer: RunWriter) -> None:
    writer.event("footnote", text="before")
    writer.flush(tail='{"time": 1.0, "ev\n{"event": "footnote", "text": "after"}\n')
    assert read(writer).footnotes == [
        "before",
        "events.jsonl: line 2 is unreadable and was skipped",
        "after",
    ]


def test_torn_character_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes('{"event": "footnote", "text": "é'.encode()[:-1])
    assert read_journal(path) == Journal()


def test_last_winner_wins(writer: RunWriter) -> None:
    writer.winner("10/llrd", 0.9, {"lr": 1e-3})
    writer.winner("10/llrd", 0.8, {"lr": 1e-4})
    winner = read(writer).winners["10/llrd"]
    assert (winner.val_accuracy, winner.config) == (0.8, {"lr": 1e-4})


def test_trial_without_an_end_is_running(writer: RunWriter) -> None:
    writer.trial("10/llrd", 0, [0.5], status=None)
    assert read(writer).trials["10/llrd", 0].status == "running"


def test_paused_trial_is_taken_up_or_stopped(writer: RunWriter) -> None:
    for number in range(3):
        writer.trial("10/llrd", number, [0.5], status=None)
        writer.event("trial_paused", cell="10/llrd", trial=number, milestone=0)
    writer.trial("10/llrd", 1, [0.5, 0.6])
    writer.event("trial_ended", cell="10/llrd", trial=2, status="stopped")
    trials = read(writer).trials
    statuses = [trials["10/llrd", number].status for number in range(3)]
    assert statuses == ["paused", "completed", "stopped"]


def test_resumed_trial_runs_again_and_keeps_its_best(writer: RunWriter) -> None:
    writer.trial("10/llrd", 0, [0.5, 0.8], status="cut")
    writer.trial("10/llrd", 0, [0.5], status=None)
    trial = read(writer).trials["10/llrd", 0]
    assert (trial.status, trial.samples, trial.val_accuracy) == ("running", 200, 0.8)


def test_nan_score_never_becomes_the_best(writer: RunWriter) -> None:
    writer.trial("10/llrd", 0, [math.nan, 0.5, math.nan])
    writer.trial("10/llrd", 1, [math.nan])
    trials = read(writer).trials
    assert trials["10/llrd", 0].val_accuracy == 0.5
    assert math.isnan(trials["10/llrd", 1].val_accuracy)


def test_the_last_reason_of_a_final_fit_that_failed_is_kept(writer: RunWriter) -> None:
    writer.winner("10/llrd", 0.9, {"lr": 1e-3})
    writer.failed_fit("10/llrd", 1, "out of memory")
    writer.failed_fit("10/llrd", 1, "the fit diverged")
    writer.winner("10/llrd", 0.9, {"lr": 1e-3})  # resumed: the winner is still the same
    assert read(writer).failed_fits == {("10/llrd", 1): "the fit diverged"}


def test_what_failed_of_another_winner_is_of_no_matter(writer: RunWriter) -> None:
    writer.winner("10/llrd", 0.8, {"lr": 1e-3})
    writer.winner("1/llrd", 0.8, {"lr": 1e-3})
    writer.failed_fit("10/llrd", 1, "the fit diverged")
    writer.failed_fit("1/llrd", 1, "the fit diverged")
    writer.winner("10/llrd", 0.9, {"lr": 1e-4})  # an extended run found a better one
    assert read(writer).failed_fits == {("1/llrd", 1): "the fit diverged"}


def test_footnotes_are_told_once_in_order(finished: RunWriter) -> None:
    assert read(finished).footnotes == ["pack: 2 images are twins", "budget was short"]


def test_unknown_events_are_passed_over(writer: RunWriter) -> None:
    writer.event("run_started", anything=1)
    assert read(writer) == Journal()


def test_event_without_its_field_names_the_line(writer: RunWriter) -> None:
    writer.event("footnote", text="fine")
    writer.event("winner", cell="10/llrd", trial=1)
    with pytest.raises(InputError, match=r"events\.jsonl, line 2: the event has no 'val_accuracy'"):
        read(writer)
