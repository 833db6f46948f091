"""What `benchmarks/overhead.py` makes of its notes."""

from __future__ import annotations

import pytest

from benchmarks.watched import Step, busy_share, ends, gaps


def step(trial: str, process: int, began: float, ended: float) -> Step:
    return Step(trial, process, began, ended, handled=ended)


STEPS = [
    step("a", 1, 10, 11),
    step("b", 2, 10, 13),
    step("a", 1, 11.5, 12),
    step("c", 1, 12.25, 14),  # on the actor that ran a
]


def test_gaps_lie_between_trials() -> None:
    assert gaps(STEPS) == [0.25]


def test_slots_are_busy_while_trials_step() -> None:
    assert busy_share(STEPS, slots=2) == pytest.approx((1 + 3 + 0.5 + 1.75) / 8)


def test_ends_are_the_first_and_the_last_fifth() -> None:
    assert ends([1.0, 3.0, 0, 0, 0, 0, 0, 0, 5.0, 7.0]) == (2.0, 6.0)
    assert ends([1.0, 2.0]) == (1.0, 2.0)
