"""The answer: which row and method, and what more images would bring."""

from __future__ import annotations

from tests.report.run_writer import RunWriter


def test_the_answer_in_two_sentences(finished: RunWriter) -> None:
    assert finished.summary().answer == (
        "With 10% of your labels (100 images) use llrd (blocks 11-7): 94.0% (91.5 to 96.5), "
        "3.0 points above a linear probe. "
        "It still gains 18.0 points from 1% to 10%: more images may help."
    )


def test_the_answer_is_the_row_from_which_on_more_images_bring_a_point(
    finished: RunWriter,
) -> None:
    for cell, accuracy in (("1/llrd", 0.93), ("10/frozen", 0.90), ("10/llrd", 0.935)):
        finished.final_fits(cell, [accuracy] * 3)
    assert finished.summary().answer == (
        "With 1% of your labels (10 images) use llrd (blocks 11-7): 93.0% (93.0 to 93.0), "
        "16.0 points above a linear probe. "
        "Beyond 1% (10 images), more images add at most a point."
    )


def test_there_is_no_answer_without_a_result(writer: RunWriter) -> None:
    writer.experiment(["frozen", "llrd"], [1, 10])
    assert writer.summary().answer.startswith("There is no answer yet")


def test_a_probe_is_compared_with_zero_shot(finished: RunWriter) -> None:
    finished.experiment(["zero_shot", "frozen"], [10])
    finished.winner("10/zero_shot", 0.7, {"blocks": "none", "solver": "none"})
    finished.final_fits("10/zero_shot", [0.70, 0.71, 0.72])
    assert finished.summary().answer == (
        "With 10% of your labels (100 images) use frozen: 91.0% (88.5 to 93.5), "
        "20.0 points above zero-shot. What more images would bring, this run cannot tell."
    )
