from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InputError
from records import (
    Cell,
    Event,
    Footnote,
    JournalWriter,
    TrialEnded,
    TrialPaused,
    TrialPromoted,
    read_journal,
)
from records.journal import journal_line


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def write(path: Path, *texts: str) -> None:
    journal = JournalWriter(path)
    for text in texts:
        journal.write(Footnote(text))
    journal.close()


def texts(path: Path) -> list[str]:
    return [event.text for event in read_journal(path) if isinstance(event, Footnote)]


@settings(max_examples=50, deadline=None)
@given(notes=st.lists(st.text(), max_size=4))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, notes: list[str]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    began = time.time()
    write(path, *notes)
    events = read_journal(path)
    assert events == [Footnote(note) for note in notes]
    assert all(began - 1 < event.time < time.time() + 1 for event in events)
    assert len(path.read_bytes().split(b"\n")) == len(notes) + 1  # one line each


def test_every_line_is_on_disk_when_write_returns(path: Path) -> None:
    journal = JournalWriter(path)
    journal.write(Footnote("first"))
    assert texts(path) == ["first"]
    journal.close()


def test_a_line_begins_with_its_time_and_the_name_of_its_event() -> None:
    event = TrialEnded(Cell(10, "llrd"), 3, "stopped", "", time=1.5)
    line = journal_line(event)
    assert line.startswith('{"time": 1.5, "event": "trial_ended", "cell": "10/llrd", "trial": 3, ')
    assert line.count("\n") == 1
    assert Event.kinds[json.loads(line)["event"]] is TrialEnded


def test_no_file_holds_no_events(path: Path) -> None:
    assert read_journal(path) == []


def test_opening_again_appends(path: Path) -> None:
    write(path, "first")
    write(path, "second")
    assert texts(path) == ["first", "second"]


def test_every_torn_last_line_is_dropped(path: Path) -> None:
    write(path, "first", "second")
    whole = path.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:length])
        assert texts(path) == ["first"]
        write(path, "third")
        assert texts(path) == ["first", "third"]


def test_a_journal_of_half_a_line_is_empty(path: Path) -> None:
    path.write_text('{"time": 1, "ev')
    assert read_journal(path) == []
    write(path, "first")
    assert texts(path) == ["first"]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"time": 1, "ev', ""),
        (b"\xff\xfe", ""),
        (b"[1]", ""),
        (b'{"time": 1}', ""),
        (b"", ""),
        (b'{"time": 1, "event": "what is that"}', r" \(no event is called .what is that.\)"),
        (b'{"time": 1, "event": "footnote"}', r" \(it has no text\)"),
        (b'{"time": null, "event": "footnote", "text": ""}', r" \(time: nan is none\)"),
        (
            b'{"time": true, "event": "footnote", "text": ""}',
            r" \(time: True is of the wrong type\)",
        ),
        (
            b'{"time": 1, "event": "winner", "cell": "10/llrd", "trial": 0, "val_accuracy": 7, '
            b'"samples": 1, "kind": "probe", "config": {}, "tried": {}, "probe": null}',
            r" \(val_accuracy: 7.* is not in 0 to 1\)",
        ),
        (b'{"time": 1, "event": "footnote", "text": 3}', r" \(text: 3 is of the wrong type\)"),
    ],
)
def test_a_damaged_line_is_told_with_its_number(path: Path, line: bytes, why: str) -> None:
    write(path, "first", "second")
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, line, second, b""]))
    with pytest.raises(
        InputError, match=rf"events.jsonl: line 2 is damaged{why}(, or of another version)?; "
    ) as error:
        read_journal(path)
    assert "\n" not in str(error.value)


def test_what_a_trial_does_not_repeat_is_forced_to_the_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    journal, cell = JournalWriter(path), Cell(10, "llrd")
    often = [TrialPaused(cell, 0, 10), TrialPromoted(cell, 0, 10)]
    for event in (Footnote("x"), *often, TrialEnded(cell, 0, "stopped", ""), *often):
        before = len(synced)
        journal.write(event)
        assert synced[before:] == [] if event in often else [path.stat().st_size]
