"""docs/events.md says what the journal holds: every event and every field, and no other."""

from __future__ import annotations

import json
from pathlib import Path

from records import Event
from records.events_document import FILE, meanings, written
from tests.tune.search.simulated import Simulation, experiment, rough

EVERY = {"time", "event"}


def documented() -> dict[str, set[str]]:
    """The fields of each event."""
    return {name: set(meanings(kind)) for name, kind in Event.kinds.items()}


def test_the_document_is_what_its_module_writes() -> None:
    """Else: python -m records.events_document."""
    assert FILE.read_text(encoding="utf-8") == written()


def test_a_journal_holds_nothing_that_is_not_in_the_document(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Simulation(experiment(), path, scorer=rough, slots=2, prospects=True).run(20).search.close("x")
    Simulation(experiment(), path, scorer=rough, slots=2, prospects=True).run()
    check(path)


def check(path: Path) -> None:
    """The lines of a journal have the documented fields, all of them."""
    table = documented()
    seen = set()
    for line in path.read_text().splitlines():
        event = json.loads(line)
        seen.add(event["event"])
        assert set(event) - EVERY == table[event["event"]], event
    assert {"trial_started", "trial_report", "trial_ended"} <= seen
