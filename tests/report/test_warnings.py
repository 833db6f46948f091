"""Warnings: duplicates, few images, seeds that are missing."""

from __future__ import annotations

import pytest

from records import Cell, RunStarted, SetScore, TrialEnded
from tests.report.run_writer import PROBE, TUNED, RunWriter, predictions


def warnings(writer: RunWriter) -> list[str]:
    return writer.summary().warnings


def test_duplicates_are_counted_by_pair_of_splits(finished: RunWriter) -> None:
    (finished.run_dir / "duplicates.csv").write_text(
        "kind,split_a,key_a,split_b,key_b\n"
        "exact,train,a.png,test,b.png\n"
        "near,train,c.png,val,d.png\n"
        "exact,train,e.png,test,f.png\n"
    )
    assert (
        "Splits share images: 1 near duplicate between train and val (duplicates.csv)"
        in finished.summary().notes
    )
    (warning,) = (line for line in warnings(finished) if "duplicates.csv" in line)
    assert warning.startswith("Test images have duplicates in other splits, so accuracies may be")
    assert warning.endswith(": 2 exact duplicates between train and test (duplicates.csv)")


def test_images_of_two_classes_have_a_warning_of_their_own(finished: RunWriter) -> None:
    """Their labels contradict: accuracy gets too low by them, not too high."""
    (finished.run_dir / "duplicates.csv").write_text(
        "kind,split_a,key_a,split_b,key_b,class_a,class_b\n"
        "exact,train,a.png,test,b.png,cat,dog\n"
        "exact,train,c.png,train,d.png,cat,dog\n"
        "exact,train,e.png,test,f.png,cat,cat\n"
    )
    first, second = (line for line in warnings(finished) if "duplicates.csv" in line)
    assert first.endswith(": 1 exact duplicate between train and test (duplicates.csv)")
    assert second == (
        "The same images have two classes, so labels contradict each other and accuracies may be "
        "too low: 1 exact duplicate between train and test, 1 exact duplicate in train "
        "(duplicates.csv)"
    )
    assert not any("duplicates.csv" in line for line in finished.summary().notes)


def test_few_images_and_a_single_seed_are_warned_of(writer: RunWriter) -> None:
    writer.experiment(["frozen"], [10])
    writer.winner("10/frozen", 0.5, PROBE)
    writer.final_fits("10/frozen", [0.5, 0.6])
    assert warnings(writer) == []
    writer.fit_path("10/frozen", 1).unlink()
    few = {"test": SetScore(0.5, predictions(0.5)[:19])}
    writer.final_fits("10/frozen", [0.5], tests=few)
    assert warnings(writer) == [
        "The test split has only 19 images: each is 5.3 points of accuracy",
        f"There is one final seed: {NOT_COVERED}",
    ]


NOT_COVERED = "intervals do not cover the draw of the training images"


def test_a_single_seed_among_groups_with_more_is_warned_of(finished: RunWriter) -> None:
    assert warnings(finished) == [f"1/seed_llrd has one final seed: {NOT_COVERED}"]
    finished.final_fits("1/seed_llrd", [0.7, 0.7])
    assert warnings(finished) == []


def test_of_many_groups_with_a_single_seed_the_first_are_named(writer: RunWriter) -> None:
    """As a time budget leaves them: every winner has its first seed, some have more."""
    partitions = [1, 5, 10, 20, 50, 100]
    writer.experiment(["frozen", "llrd"], partitions, final={"seeds": 3})
    for partition in partitions:
        writer.winner(f"{partition}/frozen", 0.5, PROBE)
        writer.final_fits(f"{partition}/frozen", [0.5, 0.6, 0.7])
        writer.final_fits(f"{partition}/llrd", [0.5])
    assert warnings(writer) == [
        f"1/llrd, 5/llrd, 10/llrd and 3 more have one final seed: {NOT_COVERED}"
    ]
    for partition in partitions[:3]:
        writer.final_fits(f"{partition}/llrd", [0.5, 0.6])
    assert warnings(writer) == [f"20/llrd, 50/llrd and 100/llrd have one final seed: {NOT_COVERED}"]


def test_what_draws_no_training_images_needs_no_second_seed(writer: RunWriter) -> None:
    writer.experiment(["zero_shot", "frozen"], [10])
    writer.winner("10/zero_shot", 0.7, {"blocks": "none", "solver": "none"})
    writer.final_fits("10/zero_shot", [0.5])
    assert warnings(writer) == []
    writer.final_fits("10/frozen", [0.5, 0.6])
    assert warnings(writer) == []


@pytest.fixture
def failing(writer: RunWriter) -> RunWriter:
    """Three seeds of two methods, one of which will fail."""
    writer.experiment(["frozen", "llrd"], [10], final={"seeds": 3})
    for method, config in (("frozen", PROBE), ("llrd", TUNED)):
        writer.winner(f"10/{method}", 0.9, config)
        writer.final_fits(f"10/{method}", [0.8, 0.9, 0.85])
    return writer


def test_a_final_fit_that_failed_is_warned_of_until_it_is_made(failing: RunWriter) -> None:
    failing.failed_fit("10/llrd", 1, "the fit diverged")
    assert warnings(failing) == [
        "1 of 3 final fits of 10/llrd failed (the fit diverged): "
        "the cell shows the mean of the others"
    ]
    failing.final_fits("10/llrd", [0.8, 0.9, 0.85])  # resumed
    assert warnings(failing) == []


def test_reasons_are_short_and_given_once(failing: RunWriter) -> None:
    for seed, reason in enumerate(["out of memory", "the fit\ndiverged", "out of memory"]):
        failing.failed_fit("10/llrd", seed, reason)
    assert warnings(failing) == []
    assert failing.summary().missing == [
        "There is no result for 10/llrd: its final fits failed: out of memory"
    ]
    for seed in range(3):
        failing.failed_fit("10/llrd", seed, 1000 * "x")
    (line,) = failing.summary().missing
    assert len(line) < 300


def test_cells_without_a_winner_are_named_with_the_commonest_reason(writer: RunWriter) -> None:
    writer.experiment(["frozen", "llrd"], [1, 10])
    for cell in ("1/frozen", "10/frozen", "1/llrd"):
        for number, reason in enumerate(["out of\nmemory", "no module models", "out of\nmemory"]):
            writer.trial(cell, number, [], status=None)
            writer.event(TrialEnded(Cell.parse(cell), number, "failed", reason))
    writer.trial("1/llrd", 3, [0.5], status=None)
    writer.trial("10/llrd", 0, [0.5])
    writer.winner("10/llrd", 0.5, TUNED)
    assert writer.summary().missing == [
        "There is no result for 1/frozen and 10/frozen: "
        "all its trials failed, most often: out of memory",
        "There is no result for 1/llrd: its search has no winner yet",
        "There is no result for 10/llrd: its final fits are not made",
    ]
    assert "most often: out of memory" in writer.summary().markdown()


def test_where_all_but_one_failed_the_figure_is_that_one(failing: RunWriter) -> None:
    for seed in (0, 2):
        failing.failed_fit("10/llrd", seed, "out of memory")
    assert warnings(failing) == [
        "2 of 3 final fits of 10/llrd failed (out of memory): the cell shows the other one alone",
        f"10/llrd has one final seed: {NOT_COVERED}",
    ]


def test_a_seed_that_is_wanted_no_longer_may_have_failed(failing: RunWriter) -> None:
    failing.failed_fit("10/llrd", 2, "the fit diverged")
    failing.experiment(["frozen", "llrd"], [10], final={"seeds": 2})
    assert warnings(failing) == []


def test_versions_that_differ_between_starts_are_told_once(finished: RunWriter) -> None:
    def started(**versions: str) -> None:
        finished.event(RunStarted(True, 0, {}, versions))

    before = warnings(finished)
    for version in ("2.8", "2.9", "2.9", "2.8"):
        started(torch=version, ray="2.49")
    started(torch="2.8", timm="1.0", ray="2.49")
    assert warnings(finished) == [
        *before,
        "The run went on with other versions than it began with: "
        "torch 2.8, then 2.9, then 2.8; timm none, then 1.0",
    ]


def test_versions_of_starts_that_came_to_nothing_do_not_count(writer: RunWriter) -> None:
    writer.experiment(["frozen"], [10])
    for torch in ("2.7", "2.8"):
        writer.event(RunStarted(True, 0, {}, {"torch": torch}))
    writer.trial("10/frozen", 0, [0.5])
    writer.event(RunStarted(True, 0, {}, {"torch": "2.8"}))
    assert warnings(writer) == []


def test_a_table_whose_images_nobody_compared_says_so(finished: RunWriter) -> None:
    finished.test_images()
    said = "Duplicates were not looked for, and may make accuracies too high; --resume looks"
    assert said not in warnings(finished)
    (finished.run_dir / "duplicates.csv").unlink()
    assert said in warnings(finished)
