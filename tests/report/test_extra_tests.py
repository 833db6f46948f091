"""Further test sets: a table each, the same rows and columns, scored by the same winners."""

from __future__ import annotations

import re

import pytest

from errors import InputError
from report import write_report
from tests.report.run_writer import RunWriter


@pytest.fixture
def extra(finished: RunWriter) -> RunWriter:
    """The finished run with images listed, and a set `wild` ten points below test at 10%."""
    finished.test_images("wild")
    finished.extra_scores("wild", "10/frozen", [0.80, 0.81, 0.82])
    finished.extra_scores("wild", "10/llrd", [0.73, 0.74, 0.75])
    return finished


def test_table_of_a_further_set(extra: RunWriter) -> None:
    summary = extra.summary()
    (test,) = summary.extra
    assert test.grid.title == "digits: accuracy on wild (%)"
    assert test.grid.header == summary.grid.header
    first, second = test.grid.rows
    assert [cell.text for cell in first] == ["1", "10", "–", "–", "–", "–"]
    # seeds 2.5 points; images 1.96 * sqrt(0.81 * 0.19 / 100), 7.7, less what seeds smooth
    assert second[2].text.startswith("81.0 ± 8.")
    assert second[3].bold  # validation decides, though llrd is below here
    assert second[5].text.startswith("-7.0 ± ")


def test_drop_and_the_means_are_found(extra: RunWriter) -> None:
    report = write_report(extra.run_dir)
    drop, mean = report.extra[0].findings
    # seeds agree; images: 1.96 * sqrt(0.91 * 0.09 + 0.81 * 0.19) / 10, about 9.5 points
    change = "From test to wild, on average over partitions, accuracy changes by (points)"
    assert drop.startswith(f"{change}: frozen -10.0 ± 9.")
    assert ", llrd -20.0 ± 9." in drop
    assert mean.startswith("llrd loses 7.0 points to frozen at 10% (2.")
    assert "## digits: accuracy on wild (%)" in report.markdown()
    assert drop in report.markdown()


def test_csv_has_two_columns_a_set(extra: RunWriter) -> None:
    table = extra.table().set_index(["partition", "method"])
    assert table.loc[(10, "llrd"), "wild_accuracy"] == pytest.approx(0.74)
    assert table.loc[(10, "llrd"), "wild_ci95"] == pytest.approx(0.09, abs=0.005)
    assert table.loc[(1, "llrd"), ["wild_accuracy", "wild_ci95"]].isna().all()


def test_each_set_has_groups_of_its_own_or_none(extra: RunWriter) -> None:
    alone = extra.table().set_index(["partition", "method"])
    extra.test_images("wild", burst=10)
    table = extra.table().set_index(["partition", "method"])
    row = (10, "llrd")
    assert table.loc[row, "wild_ci95"] == alone.loc[row, "wild_ci95"]
    # 10 groups instead of 100 images, of 94% right: 9 groups are right, one of them to 40%
    assert alone.loc[row, "test_ci95_images"] == pytest.approx(1.96 * 0.0235, rel=0.1)
    assert table.loc[row, "test_ci95_images"] == pytest.approx(1.96 * 0.6 * 0.3 / 10**0.5, rel=0.1)


def test_extra_score_without_predictions_is_named(extra: RunWriter) -> None:
    path = extra.fit_path("10/llrd", 0)
    path.write_text(re.sub(r'"accuracy": ?0.73, ?', "", path.read_text()))
    with pytest.raises(InputError, match=r"10-llrd-seed0\.json .*: it has no accuracy"):
        write_report(extra.run_dir)


def test_predictions_of_other_images_are_refused(extra: RunWriter) -> None:
    path = extra.run_dir / "test_images.csv"
    path.write_text("set,key,label\ntest,0.png,1\n")
    with pytest.raises(InputError, match=r"1/frozen, seed 0: 100 predictions, .* 1 images of test"):
        write_report(extra.run_dir)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"key,label\na,1\n", "lacks the column set"),
        (b"set,key,label\ntest,a,one\n", "label must be numbers"),
        (
            b"set,key,label,group\ntest,a,1,x\ntest,b,1,\n",
            "has a group for some images of test and none for others",
        ),
        (b"", "is no table"),
        (b"set,key\xca\xfe\n", "is no table"),
    ],
)
def test_unreadable_test_images_are_refused(extra: RunWriter, content: bytes, message: str) -> None:
    (extra.run_dir / "test_images.csv").write_bytes(content)
    with pytest.raises(InputError, match=message):
        write_report(extra.run_dir)
