"""Which classes are taken for which, over all final fits of a cell."""

from __future__ import annotations

import tracemalloc

import pytest

from errors import InputError
from records import Cell, SetScore
from report.confusion import confusion, mistakes
from report.run import read_run
from tests.report.run_writer import PROBE, RunWriter


@pytest.fixture
def three(writer: RunWriter) -> RunWriter:
    """Two fits on three images of a cat and one of a dog; a bird is predicted and has no image."""
    writer.experiment(["frozen"], [10])
    writer.winner("10/frozen", 0.5, PROBE)
    writer.final_fits("10/frozen", [0.75, 0.5])
    for seed, (predictions, sure) in enumerate(
        [([0, 0, 1, 1], [0.9, 0.8, 0.7, 0.6]), ([0, 2, 1, 1], [0.9, 0.5, 0.9, 0.6])]
    ):
        accuracy = sum(p == t for p, t in zip(predictions, [0, 0, 0, 1], strict=True)) / 4
        score = SetScore(accuracy, predictions, sure, sure)
        writer.edit_fit("10/frozen", seed, tests={"test": score})
    (writer.run_dir / "test_images.csv").write_text(
        "set,key,label,class_name\n"
        "test,a.png,0,cat\ntest,b.png,0,cat\ntest,c.png,0,cat\ntest,d.png,1,dog\n"
    )
    (writer.run_dir / "classes.csv").write_text(
        "label,train,val,test\ncat,4,1,3\ndog,4,1,1\nbird,4,1,0\n"
    )
    return writer


CELL = Cell(10, "frozen")


def test_counts_are_means_over_fits(three: RunWriter) -> None:
    found = confusion(read_run(three.run_dir), CELL)
    assert found is not None
    assert found.names == ("cat", "dog", "bird")
    assert found.table().tolist() == [[1.5, 1.0, 0.5], [0, 1, 0], [0, 0, 0]]
    assert found.images.tolist() == [3, 1, 0]
    assert found.pairs() == [
        ("cat", "dog", 1.0, pytest.approx(1 / 3)),
        ("cat", "bird", 0.5, pytest.approx(1 / 6)),
    ]


def test_many_classes_take_no_table_of_all_pairs(three: RunWriter) -> None:
    classes = 3000
    predictions = [row % classes for row in range(2 * classes)]
    lines = [f"test,{row}.png,{row // 2},class{row // 2}" for row in range(2 * classes)]
    (three.run_dir / "test_images.csv").write_text("\n".join(["set,key,label,class_name", *lines]))
    accuracy = sum(row // 2 == taken for row, taken in enumerate(predictions)) / len(predictions)
    for seed in (0, 1):
        three.edit_fit("10/frozen", seed, tests={"test": SetScore(accuracy, predictions)})
    run = read_run(three.run_dir)
    assert run.scores(*CELL)  # what follows is the confusion's own memory
    tracemalloc.start()
    found = confusion(run, CELL)
    assert tracemalloc.get_traced_memory()[1] < classes**2
    tracemalloc.stop()
    assert found is not None
    assert found.images.tolist() == [2] * classes
    assert found.right.sum() == 2 * classes * accuracy


def test_mistakes_are_ranked_by_confidence_over_all_fits(three: RunWriter) -> None:
    found = mistakes(read_run(three.run_dir), CELL)
    assert [(m.key, m.label, m.predicted) for m in found] == [
        ("c.png", "cat", "dog"),
        ("b.png", "cat", "bird"),
    ]
    assert [m.confidence for m in found] == [pytest.approx(0.8), pytest.approx(0.25)]


def test_a_class_is_numbered_where_the_run_lists_no_classes(three: RunWriter) -> None:
    (three.run_dir / "classes.csv").unlink()
    found = confusion(read_run(three.run_dir), CELL)
    assert found is not None
    assert found.names == ("cat", "dog", "class 2")


def test_predictions_that_do_not_fit_the_images_are_refused(three: RunWriter) -> None:
    three.edit_fit("10/frozen", 1, tests={"test": SetScore(0.5, [0, 1])})
    with pytest.raises(InputError, match="seed 1: 2 predictions"):
        mistakes(read_run(three.run_dir), CELL)


def test_without_confidences_it_is_the_share_of_fits(three: RunWriter) -> None:
    for seed in (0, 1):
        fit = read_run(three.run_dir).fits[CELL][seed].tests["test"]
        three.edit_fit("10/frozen", seed, tests={"test": SetScore(fit.accuracy, fit.predictions)})
    assert [m.confidence for m in mistakes(read_run(three.run_dir), CELL)] == [1.0, 0.5]
