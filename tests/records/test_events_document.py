"""docs/events.md says what the journal holds: every event that is written, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from records.journal import read_events
from tests.tune.search.simulated import Simulation, experiment, rough
from tune.trials.tuner import REPORTED

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "events.md"
EVERY = {"time", "event"}
BUILT_ELSEWHERE = {"trial_report": {*REPORTED, "chosen"}, "trial_promoted": {"milestone"}}
"""Fields of calls that unpack a mapping."""


def documented() -> dict[str, set[str]]:
    """The fields of each event, by the first table."""
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", DOCUMENT.read_text(), re.MULTILINE)
    return {event: set(re.findall(r"`(\w+)`", fields)) for event, fields in rows}


def explained() -> set[str]:
    """The fields of the second table."""
    return set(re.findall(r"^\| `(\w+)` \|[^|]*\|$", DOCUMENT.read_text(), re.MULTILINE))


def written() -> Iterator[tuple[str, set[str]]]:
    """Name and named fields of every `journal.write("...")` in the code."""
    for path in sorted([*ROOT.glob("*.py"), *ROOT.glob("tune/**/*.py"), *ROOT.glob("report/*.py")]):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            owner = ast.unparse(node.func.value)
            if node.func.attr == "write" and owner.endswith("journal"):
                (event,) = node.args
                assert isinstance(event, ast.Constant)
                yield str(event.value), {word.arg for word in node.keywords if word.arg}


def test_every_event_that_is_written_is_in_the_document_and_no_other() -> None:
    events = {event for event, _ in written()}
    assert len(events) > 10
    assert set(documented()) == events


def test_the_fields_that_the_code_names_are_in_the_document() -> None:
    table = documented()
    for event, fields in written():
        assert fields <= table[event], event
    for event, fields in BUILT_ELSEWHERE.items():
        assert fields <= table[event], event


def test_every_field_is_explained_and_no_other() -> None:
    assert explained() == set().union(*documented().values())


def test_a_journal_holds_nothing_that_is_not_in_the_document(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    Simulation(experiment(), path, scorer=rough, slots=2, prospects=True).run(20).search.close("x")
    Simulation(experiment(), path, scorer=rough, slots=2, prospects=True).run()
    check(path)


def check(path: Path) -> None:
    """A journal's events have the documented fields, and trials' events all of them."""
    table = documented()
    seen = set()
    for event in read_events(path):
        fields = set(event) - EVERY
        seen.add(event["event"])
        assert fields <= table[event["event"]], event
        if event["event"] != "trial_report":  # simulated ones are shorter
            assert fields == table[event["event"]], event
    assert {"trial_started", "trial_report", "trial_ended"} <= seen
