"""The best method of a partition: by validation, within half a standard error, the cheapest."""

from __future__ import annotations

from typing import Any

import pytest

from records import Cell, Kind, Winner
from report.best import Fits, best_method, cost, difference
from report.run import read_run
from tests.records.results import a_result
from tests.report.run_writer import PROBE, TUNED, RunWriter

IMAGES = 400


def winner(kind: Kind, **config: Any) -> Winner:
    return Winner(Cell(1, "any"), 0, 0.9, 90, kind, config, config, None)


def fits(*right: range) -> Fits:
    """A fit for each seed, right about these validation images."""
    return {
        seed: a_result(
            Cell(1, "any"),
            seed,
            n_val=IMAGES,
            val_accuracy=len(found) / IMAGES,
            val_correct=[float(image in found) for image in range(IMAGES)],
        )
        for seed, found in enumerate(right)
    }


HEAD, LAST, FIVE = winner("probe"), winner("tuned", blocks="11"), winner("tuned", blocks="11-7")


def test_what_costs_more_is_best_only_if_noise_does_not_explain_its_lead() -> None:
    probe = (HEAD, fits(*[range(300)] * 3))
    clear = (FIVE, fits(*[range(320)] * 3))  # 5 points, a standard error of 1.1
    assert best_method({"frozen": probe, "llrd": clear}) == "llrd"
    # Not paired, three images more are noise; paired they are not.
    paired = (FIVE, fits(*[range(303)] * 3))
    assert best_method({"frozen": probe, "llrd": paired}) == "llrd"
    lag, error = difference(list(paired[1].values()), list(probe[1].values()))
    assert (lag, error) == (pytest.approx(3 / IMAGES), pytest.approx(0.00432, abs=1e-5))
    apart = (FIVE, fits(*[range(10, 312)] * 3))  # two more in all, but ten others
    assert best_method({"frozen": probe, "llrd": apart}) == "frozen"


def test_of_equally_cheap_ones_within_the_error_it_is_the_more_accurate() -> None:
    one, other = (HEAD, fits(range(300))), (HEAD, fits(range(5, 306)))
    assert best_method({"zeros": one, "text": other}) == "text"


def test_the_draws_count_as_noise_too() -> None:
    steady = (HEAD, fits(*[range(300)] * 3))
    lucky = (FIVE, fits(range(300), range(330), range(290)))
    assert best_method({"frozen": steady, "llrd": lucky}) == "frozen"


def test_the_draw_of_the_search_is_left_out_where_there_are_others() -> None:
    steady = (HEAD, fits(*[range(300)] * 3))
    picked = (FIVE, fits(range(390), range(300), range(300)))
    assert best_method({"frozen": steady, "llrd": picked}) == "frozen"
    assert best_method({"frozen": steady, "llrd": (FIVE, fits(range(390)))}) == "llrd"


def test_without_final_fits_there_is_none() -> None:
    assert best_method({}) is None


def test_costs() -> None:
    whole = winner("tuned", blocks="all")
    order = [winner("zero_shot", blocks="none"), HEAD, LAST, FIVE, winner("tuned", blocks=3), whole]
    assert [cost(found) for found in order] == [0, 1, 2, 6, 2, float("inf")]


def test_a_run_names_it(finished: RunWriter) -> None:
    assert read_run(finished.run_dir).best == {1: "llrd", 10: "llrd"}
    assert finished.table()["best"].sum() == 2
    finished.final_fits("10/frozen", [0.90, 0.91, 0.92], val_accuracy=0.94)
    finished.winner("10/frozen", 0.94, PROBE)
    finished.final_fits("10/frozen", [0.90, 0.91, 0.92])
    assert read_run(finished.run_dir).best == {1: "llrd", 10: "frozen"}


def test_it_is_compared_with_zero_shot(writer: RunWriter) -> None:
    writer.experiment(["zero_shot", "frozen", "llrd"], [1])
    for method, accuracy, config in (
        ("zero_shot", 0.7, {}),
        ("frozen", 0.8, PROBE),
        ("llrd", 0.9, TUNED),
    ):
        writer.winner(f"1/{method}", accuracy, config)
        writer.final_fits(f"1/{method}", [accuracy - 0.01, accuracy, accuracy + 0.01])
    summary = writer.summary()
    assert summary.findings[0].startswith("best gains 20.0 points over zero_shot at 1%")
    assert summary.best == ["llrd: ln+attn of blocks 11-7, lr 3e-4, decay 0.75, batch 64"]


def test_the_last_blocks_cost_what_their_numbers_do() -> None:
    for last, numbers in (("last 5", "11-7"), ("last 1", "11")):
        assert cost(winner("tuned", blocks=last)) == cost(winner("tuned", blocks=numbers))
