"""A journal whose lines parse but do not fit: the run goes on, or one line says which does not."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from errors import InputError
from records import Event
from records.journal import journal_line
from report.optuna import write_studies
from report.run import read_run
from report.summary import summarise
from tests.tune.search.simulated import FROZEN, LLRD, Simulation, experiment, rough

METHODS = {"frozen": {**FROZEN, "trials": 1}, "llrd": LLRD}
SPEC = experiment(partitions=(1,), methods=METHODS)
WRONG: tuple[Any, ...] = (None, True, -1, 1.5, "x", ["x"], {"x": 1.0}, 1e300)

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def lines(tmp_path_factory: pytest.TempPathFactory) -> Lines:
    """The journal of a small search, with its winners."""
    path = tmp_path_factory.mktemp("whole") / "events.jsonl"
    done = Simulation(SPEC, path, rough, slots=2, seed=1, prospects=True).run()
    won: list[Event] = [*done.search.winners().values()]
    text = path.read_text() + "".join(map(journal_line, won))
    return [json.loads(line) for line in text.splitlines()]


def refusal(events: Lines, folder: Path) -> str:
    """Why a run with this journal is not resumed; empty if it is, to its end and its report."""
    path = folder / "events.jsonl"
    path.write_text("".join(f"{json.dumps(event)}\n" for event in events))
    (folder / "experiment.yaml").write_text(yaml.safe_dump(SPEC.resolved() | {"identity": {}}))
    try:
        simulation = Simulation(SPEC, path, rough)
    except InputError as error:
        return str(error)
    simulation.run()
    assert simulation.search.finished  # and so nobody waits for ever
    write_studies(folder)
    assert summarise(read_run(folder)).markdown()
    return ""


def check(events: Lines, folder: Path) -> None:
    said = refusal(events, folder)
    assert re.fullmatch(r"(.*/events\.jsonl: line \d+ is damaged[^\n]*)?", said), said


def changed(value: Any) -> Iterator[Any]:
    """Values with one part of another type, missing or added."""
    yield from (wrong for wrong in WRONG if type(wrong) is not type(value))
    if isinstance(value, dict):
        for key, part in value.items():
            yield {k: v for k, v in value.items() if k != key}
            yield from ({**value, key: other} for other in changed(part))


def test_what_is_whole_goes_on(lines: Lines, tmp_path: Path) -> None:
    assert refusal(lines, tmp_path) == ""
    assert len({line["event"] for line in lines}) == 6


def test_a_line_lost_doubled_or_in_another_place(lines: Lines, tmp_path: Path) -> None:
    for i in range(len(lines)):
        check(lines[:i] + lines[i + 1 :], tmp_path)
        check([*lines[:i], lines[i], *lines[i:]], tmp_path)
        check([*lines[:i], *lines[i : i + 2][::-1], *lines[i + 2 :]], tmp_path)


def test_a_field_of_another_type(lines: Lines, tmp_path: Path) -> None:
    """In one line of each kind."""
    for event, cell in {(line["event"], line["cell"]) for line in lines}:
        i = next(
            i for i, line in enumerate(lines) if (line["event"], line["cell"]) == (event, cell)
        )
        for line in changed(lines[i]):
            if isinstance(line, dict):
                check([*lines[:i], line, *lines[i + 1 :]], tmp_path)


@pytest.mark.parametrize(
    ("event", "change", "why"),
    [
        ("trial_started", {"cell": None}, "cell: None is of the wrong type"),
        ("trial_started", {"config": None}, "config: None is of the wrong type"),
        ("trial_started", {"config": {}}, "trial 0 of 1/frozen: blocks is missing"),
        ("trial_report", {"score": "high"}, "score: 'high' is of the wrong type"),
        ("trial_report", {"trial": 9}, "trial 9 of 1/frozen: an earlier event is missing"),
        ("trial_report", {"milestone": 91}, "trial 0 of 1/frozen: no milestone is at 91"),
        ("trial_ended", {"status": "retired"}, "status: 'retired' is none of completed, stopped"),
        ("trial_ended", {"time": 1e12}, "time: 1000000000000.0 is none"),
        ("trial_ended", {"event": "rested"}, "no event is called 'rested'"),
    ],
)
def test_the_line_says_what_is_wrong(
    event: str, change: dict[str, Any], why: str, lines: Lines, tmp_path: Path
) -> None:
    i = next(i for i, line in enumerate(lines) if line["event"] == event)
    said = refusal([*lines[:i], {**lines[i], **change}, *lines[i + 1 :]], tmp_path)
    assert f"events.jsonl: line {i + 1} is damaged ({why}" in said
