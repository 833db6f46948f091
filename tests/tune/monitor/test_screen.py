"""How often something is shown, and in what words."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tests.tune.monitor.terminal import frames
from tests.tune.monitor.test_metrics import FakeGauges, Hands
from tune.monitor.metrics import Gauges
from tune.monitor.screen import PLAIN_INTERVAL, Screen, duration


def screen(terminal: bool) -> tuple[Screen, io.StringIO, Hands]:
    output, hands = io.StringIO(), Hands()
    console = Console(file=output, force_terminal=terminal, width=100)
    return Screen(console, Gauges("simulated", FakeGauges(), hands), hands), output, hands


def test_a_terminal_gets_one_line_that_changes() -> None:
    shown, output, _ = screen(terminal=True)
    with shown.line("begins") as show:
        show("goes on")
    *before, left = frames(output.getvalue())
    assert all(len(lines) <= 1 for lines in before)
    assert any("goes on" in line for lines in before for line in lines)
    assert left == []


def test_without_a_terminal_a_line_is_printed_now_and_then() -> None:
    shown, output, hands = screen(terminal=False)
    with shown.line("begins") as show:
        for tenth in range(25):
            hands.seconds = tenth * PLAIN_INTERVAL / 10
            show(f"tenth {tenth}")
    assert output.getvalue() == "tenth 10\ntenth 20\n"


@pytest.mark.parametrize("text", ["[errno 28] no space", "index [/0] is out of bounds"])
def test_a_line_with_brackets_is_printed_as_it_is(text: str) -> None:
    shown, output, _ = screen(terminal=False)
    shown.print(text)
    assert output.getvalue() == f"{text}\n"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (5399, "90 min"),
        (5400, "1.5 h"),
        (90000, "25.0 h"),
    ],
)
def test_durations_are_said_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said
