"""docs/events.md says what the journal holds: every event and every field, and no other."""

from __future__ import annotations

import json
import re
from pathlib import Path

from records import Event
from records.encoding import keys
from tests.tune.search.simulated import Simulation, experiment, rough

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "events.md"
EVERY = {"time", "event"}


def documented() -> dict[str, set[str]]:
    """The fields of each event, by the first table."""
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    return {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}


def explained() -> set[str]:
    """The fields of the second table."""
    return set(re.findall(r"^\| `(\w+)` \|[^|]*\|$", DOCUMENT.read_text(), re.MULTILINE))


def test_every_event_is_in_the_document_with_its_fields_and_no_other() -> None:
    assert len(Event.kinds) > 10
    assert documented() == {name: {*keys(kind)} - EVERY for name, kind in Event.kinds.items()}


def test_every_field_is_explained_and_no_other() -> None:
    assert explained() == set().union(*documented().values())


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
