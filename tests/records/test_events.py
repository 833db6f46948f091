"""Every kind of event is read from the journal as it was written."""

from __future__ import annotations

from pathlib import Path

import pytest

from records import (
    Cell,
    EncoderSized,
    EncoderTimed,
    Event,
    FinalFitFailed,
    Footnote,
    ImagesRead,
    JournalWriter,
    Nodes,
    NodeView,
    PrecisionChosen,
    RunFinished,
    RunStarted,
    SearchClosed,
    StageEnded,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    TrialReport,
    TrialReported,
    TrialStarted,
    Winner,
    read_journal,
)

CELL = Cell(12.5, "llrd")
CONFIG = {"blocks": "11-7", "lr": 1e-4, "head_lr": [1e-3, 1e-2]}
REPORT = TrialReport(
    milestone=30,
    taken_up=10,
    samples=32,
    steps=2,
    train_loss=0.7,
    val_accuracy=0.5,
    val_loss=0.9,
    score=0.51,
    prospect=0.4,
    weight_distance=0.01,
    diverged=False,
    seconds=1.25,
    node="abcdef01",
    chosen={"head_lr": 1e-3, "weight_decay": 0.0},
)
EVENTS: list[Event] = [
    RunStarted(False, 7, {"run": "a1"}, {"torch": "2.9"}),
    Footnote("two images are twins"),
    Nodes((NodeView("a", "10.0.0.1", True, "/code", None), NodeView("b", "", False, "", 80))),
    PrecisionChosen("bfloat16"),
    EncoderSized(86_000_000, 17_000_000_000),
    EncoderTimed(1234.5, "a GPU"),
    ImagesRead({"10/seed0": "aaa", "10/seed1": "bbb"}),
    StageEnded("features", 1.5),
    TrialStarted(CELL, 3, "partition 10", CONFIG, None),
    TrialReported(CELL, 3, REPORT),
    TrialPromoted(CELL, 3, 30),
    TrialPaused(CELL, 3, 30),
    TrialEnded(CELL, 3, "stopped", ""),
    SearchClosed("time budget"),
    Winner(CELL, 3, 0.5, 32, "tuned", {**CONFIG, "head_lr": 1e-3}, CONFIG, {"blocks": "none"}),
    FinalFitFailed(CELL, 1, "out of memory"),
    RunFinished(60.0),
]


def test_there_is_one_of_every_kind() -> None:
    assert {type(event) for event in EVENTS} == set(Event.kinds.values())


@pytest.mark.parametrize("event", EVENTS, ids=[event.name for event in EVENTS])
def test_what_is_written_is_read(event: Event, tmp_path: Path) -> None:
    journal = JournalWriter(tmp_path / "events.jsonl")
    journal.write(event)
    journal.close()
    assert read_journal(journal.path) == [event]
