"""The answer: which row and method, and what more images would bring."""

from __future__ import annotations

from tests.report.run_writer import RunWriter


def test_the_answer_in_two_sentences(finished: RunWriter) -> None:
    assert finished.summary().answer == (
        "With 10% of your labels (100 images) use llrd (blocks 11-7): 94.0% (91.5 to 96.5), "
        "3.0 points above a linear probe; seed_llrd has no result there. "
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


def test_one_percentage_beside_shots_is_the_largest_row(writer: RunWriter) -> None:
    writer.experiment(["frozen"], [], data={"shots": [1, 4], "partitions": [100]})
    for cell, images in (("1shot/frozen", 20), ("4shot/frozen", 80), ("100/frozen", 200)):
        writer.final_fits(cell, [images / 200] * 3, n_train=images)
    assert writer.summary().answer.startswith("With all your labels (200 images) use frozen: 100.0")


def test_a_row_whose_best_is_another_method_is_not_recommended(finished: RunWriter) -> None:
    for cell, accuracy in (("1/llrd", 0.93), ("10/llrd", 0.935)):
        finished.final_fits(cell, [accuracy] * 3)
    finished.final_fits("1/frozen", [0.5] * 3, val_accuracy=1.0, val_correct=[1.0] * 360)
    assert finished.summary().answer.startswith("With 10% of your labels")


def test_a_metric_that_is_not_accuracy_is_named(finished: RunWriter) -> None:
    finished.experiment(["frozen", "llrd"], [1, 10], metric="balanced_accuracy")
    assert "% balanced accuracy (" in finished.summary().answer
