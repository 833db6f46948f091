"""Comparisons are paired: by seed, and by test image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import InputError
from records import SetScore
from report.run import read_run
from report.scores import Scores, mean_of
from tests.report.run_writer import PROBE, RunWriter

SEEDS = st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True)


def score(*right: str) -> Scores:
    """Scores of seeds 0, 1, … from their images, `x` where right."""
    correct = {
        seed: np.array([image == "x" for image in images], dtype=float)
        for seed, images in enumerate(right)
    }
    return Scores({seed: float(images.mean()) for seed, images in correct.items()}, correct)


@st.composite
def scores(draw: st.DrawFn, images: int = 12) -> Scores:
    """Any scores on some images."""
    votes = st.lists(st.integers(0, 1), min_size=images, max_size=images)
    correct = {seed: np.array(draw(votes), dtype=float) for seed in draw(SEEDS)}
    return Scores({seed: float(right.mean()) for seed, right in correct.items()}, correct)


@given(scores())
def test_nothing_differs_from_itself(ours: Scores) -> None:
    difference = ours.minus(ours)
    assert difference is not None
    assert (difference.mean, difference.seeds or 0, difference.shown) == (0, 0, False)


@given(scores(), scores())
def test_difference_turns_its_sign_with_its_sides(ours: Scores, theirs: Scores) -> None:
    there, back = ours.minus(theirs), theirs.minus(ours)
    shared = sorted(ours.accuracy.keys() & theirs.accuracy.keys())
    if not shared:
        assert there is back is None
        return
    assert there is not None
    assert back is not None
    expected = np.mean([ours.accuracy[s] - theirs.accuracy[s] for s in shared])
    assert there.mean == pytest.approx(expected)
    assert there.mean == -back.mean
    assert there.known == (len(shared) > 1)
    assert there.half_width == pytest.approx(back.half_width, rel=0.2)


@given(scores())
def test_mean_of_equal_scores_is_the_score(ours: Scores) -> None:
    mean = mean_of([ours, ours, ours])
    assert mean is not None
    assert mean.interval().mean == pytest.approx(ours.interval().mean)
    assert mean.interval().half_width == pytest.approx(ours.interval().half_width, abs=1e-9)


def test_pairing_removes_what_the_seeds_share() -> None:
    ours, theirs = Scores({0: 0.92, 1: 0.82, 2: 0.72}), Scores({0: 0.90, 1: 0.80, 2: 0.70})
    difference = ours.minus(theirs)
    assert difference is not None
    assert difference.points("+") == "+2.0 ± 0.0"


def test_pairing_removes_what_the_images_share() -> None:
    # One image of ten differs, so its share is 0.1 with a standard error of sqrt(0.1 * 0.9 / 10);
    # unpaired, two shares of one half would give sqrt(2 * 0.5 * 0.5 / 10), twice as much.
    ours, theirs = score("xxxxxx----"), score("xxxxx-----")
    difference, apart = ours.minus(theirs), ours.minus_unpaired(theirs)
    assert difference is not None
    assert difference.mean == pytest.approx(0.1)
    assert difference.images == pytest.approx(1.96 * 0.0949, rel=0.05)
    assert apart is not None
    assert apart.images == pytest.approx(1.96 * 0.2214, rel=0.05)


def test_images_are_averaged_over_seeds_before_they_are_drawn() -> None:
    # Both seeds are right on half the images, on other halves: every image is right half the time,
    # and that another would be too is all that four of them can tell.
    assert score("xx--", "--xx").interval().images == pytest.approx(1 - 0.025 ** (1 / 4))
    assert score("xx--", "xx--").interval().images == pytest.approx(1.96 * 0.25, rel=0.05)


def test_groups_of_images_are_drawn_whole_in_every_comparison() -> None:
    ours, theirs = score("xx" * 6 + "--" * 6), score("xx" * 3 + "--" * 9)
    pairs = np.repeat(np.arange(12), 2)
    ours, theirs = replace(ours, groups=pairs), replace(theirs, groups=pairs)
    assert ours.interval().images == pytest.approx(1.96 * 0.5 / 12**0.5, rel=0.05)
    difference, mean = ours.minus(theirs), mean_of([ours, theirs])
    assert difference is not None
    assert difference.images == pytest.approx(1.96 * (0.25 * 0.75 / 12) ** 0.5, rel=0.05)
    assert mean is not None
    assert mean.groups is pairs


def test_one_seed_has_the_images_alone() -> None:
    interval = score("xx--").interval()
    assert interval.seeds is None
    assert interval.half_width == interval.images


def test_without_labels_seeds_are_all_there_is() -> None:
    labelled, bare = score("xx--", "x---"), Scores({0: 0.75, 1: 0.5})
    assert bare.interval().images is None
    for difference in (labelled.minus(bare), labelled.minus_unpaired(bare)):
        assert difference is not None
        assert difference.images is None
        assert difference.mean == pytest.approx(-0.25)


def test_mean_over_partitions_needs_a_seed_that_all_have() -> None:
    assert mean_of([]) is None
    assert mean_of([Scores({0: 0.5}), Scores({1: 0.5})]) is None
    mean = mean_of([Scores({0: 0.5, 1: 0.7}), Scores({1: 0.9, 2: 0.1})])
    assert mean is not None
    assert mean.accuracy == {1: pytest.approx(0.8)}


def test_likelihood_is_recomputed_from_what_the_fits_keep(writer: RunWriter) -> None:
    lines = [f"test,{i}.png,0" for i in range(4)]
    (writer.run_dir / "test_images.csv").write_text("\n".join(["set,key,label", *lines, ""]))
    writer.winner("1/frozen", 0.5, PROBE)
    score = SetScore(0.5, [0] * 4, log_likelihoods=[np.log(p) for p in (0.25, 1, 0.5, 0.5)])
    writer.final_fits("1/frozen", [0.5] * 3, tests={"test": score})
    writer.experiment(["frozen"], [1], metric="log_loss")
    (row,) = writer.summary().grid.rows
    assert writer.summary().grid.title == "digits: test likelihood (%)"
    assert row[2].text.startswith("50.0 ± ")
    writer.final_fits("1/frozen", [0.5] * 3, tests={"test": SetScore(0.5, [0] * 4)})
    with pytest.raises(InputError, match="seed 0: has no likelihoods of test"):
        writer.summary()


def test_balanced_accuracy_is_recomputed_from_predictions(writer: RunWriter) -> None:
    """Ten images of class 0 and ninety of class 1, of which one in ten and all are right."""
    labels = [0] * 10 + [1] * 90
    lines = [f"test,{i}.png,{label}" for i, label in enumerate(labels)]
    (writer.run_dir / "test_images.csv").write_text("\n".join(["set,key,label", *lines, ""]))
    writer.winner("1/frozen", 0.5, PROBE)
    score = SetScore(0.55, [0] + [1] * 99)
    writer.final_fits("1/frozen", [0.55] * 3, tests={"test": score})
    writer.experiment(["frozen"], [1], metric="balanced_accuracy")
    (row,) = writer.summary().grid.rows
    assert writer.summary().grid.title == "digits: test balanced accuracy (%)"
    assert row[2].text.startswith("55.0 ± ")
    writer.experiment(["frozen"], [1])
    with pytest.raises(InputError, match=r"accuracy 0.550000 on test, but 0.910000"):
        writer.summary()


def test_seeds_are_planned_by_the_images_drawn_not_by_those_that_could_be_read(
    writer: RunWriter,
) -> None:
    writer.experiment(["frozen"], [10], final={"seeds": "auto"})
    writer.final_fits("10/frozen", [0.5] * 3, n_train=199, drawn=200)
    assert read_run(writer.run_dir).planned(10) == 3
    writer.final_fits("10/frozen", [0.5] * 3, n_train=199)
    assert read_run(writer.run_dir).planned(10) == 6
