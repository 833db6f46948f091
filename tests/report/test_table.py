"""The tables: their files' exact shape, and whose number stands in which cell."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from records import Footnote, SetScore
from report import write_report
from report.grid import Grid
from terminal import Terminal
from tests.report.run_writer import PROBE, TUNED, RunWriter, predictions
from tests.test_text import HOSTILE

GOLDEN = """\
# digits: test accuracy (%)

| partition (%) | train images | frozen | llrd | seed_llrd | gain (points) | device-seconds | \
best |
| ---: | ---: | ---: | ---: | ---: | ---: | ---: | :--- |
| 1 | 10 | 77.0 ± 2.5 | **76.0 ± 2.5** | 70.0 | -1.0 ± 2.5 | 27 | \
llrd: ln+attn of blocks 11-7, lr 3e-4, decay 0.75, batch 64 |
| 10 | 100 | 91.0 ± 2.5 | **94.0 ± 2.5** | – | +3.0 ± 0.0 | 23 | \
llrd: ln+attn of blocks 11-7, lr 3e-4, decay 0.9, batch 64 |

What it shows (intervals over seeds):

- llrd gains 3.0 points over frozen at 10% (3.0 to 3.0)
- No difference between llrd and frozen is shown at 1% (-1.0, -3.5 to 1.5)
- No difference between llrd and frozen is shown on average over 2 partitions \
(+1.0, -0.2 to 2.2)
- seed_llrd and frozen cannot be compared at 1%: it takes two final seeds
- llrd still gains 18.0 points from 1% to 10% (15.5 to 20.5): more than 100 images may help
- frozen still gains 14.0 points from 1% to 10% (14.0 to 14.0): more than 100 images may help
- frozen is nowhere shown to fall as data grows

Warnings:

- There is no result for 10/seed_llrd: no trial was made; --resume makes them, given the time
- 1/seed_llrd has one final seed: intervals do not cover the draw of the training images

Notes:

- Each cell is the mean over 1 to 3 final seeds ± the half-width of its 95% confidence interval
- Each seed draws its partition anew from the training images; at 100% it changes only the order \
of samples
- The interval covers the seeds (Student t), but not the draw of the 100 test images: there is no \
test_images.csv
- Intervals are not corrected for multiple comparisons and do not include the randomness of the \
search
- Best (bold) is by the validation accuracy of the final fits: of the methods within half a \
standard error of the highest, the cheapest to train and to serve
- The gain is llrd minus frozen on test, paired by seed
- llrd is below frozen at 1% (by 1.0 points on test)
- seed_llrd is below frozen at 1% (by 6.0 points on test and 5.0 points on validation)
- The winners of llrd moved the encoder's weights by 3.1% to 8.4% and were best after 41 steps
- The winners of seed_llrd moved the encoder's weights by 3.1% and were best after 40 steps
- The winners of llrd had no more validation accuracy in the search than in refits on other draws
- The search made 7 trials (stopped early: 1, failed: 1; see trials.csv)
- Trials took 8 device-seconds and final fits 42; features are not counted
- Early stopping saved 11% of the search's device-seconds
- The run skipped 2 images (skipped_images.csv)
- pack: 2 images are twins
- budget was short
"""

SOURCES = "The interval combines two independent sources: the seeds"


def rows_of(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.open(newline="", encoding="utf-8")))


def test_markdown_of_a_small_run(finished: RunWriter) -> None:
    assert write_report(finished.run_dir).markdown() == GOLDEN
    assert (finished.run_dir / "accuracy_table.md").read_text(encoding="utf-8") == GOLDEN


def test_terminal_shows_answer_table_and_eight_lines(finished: RunWriter) -> None:
    text = io.StringIO()
    report = write_report(finished.run_dir)
    report.render(Terminal(file=text, width=1000, color_system=None))
    lines = text.getvalue().splitlines()
    assert lines[0] == report.answer
    shown = " ".join(text.getvalue().split())
    for row in report.grid.rows:
        assert all(cell.text in shown for cell in row)
    assert lines[-1] == f"The rest, with pictures: {finished.run_dir / 'report.html'}"
    warned = [f"warning: {line}" for line in (*report.missing, *report.warnings)]
    assert lines[-9:-1] == [*warned, *report.findings][:8]


def test_five_methods_fit_eighty_columns(finished: RunWriter) -> None:
    methods = ["zero_shot", "frozen", "layer_norm", "llrd", "seed_llrd"]
    finished.experiment(methods, [100])
    for method in methods:
        finished.final_fits(f"100/{method}", [0.60, 0.70, 0.80])
    finished.winner("100/frozen", 0.7, PROBE)
    summary = finished.summary()
    for width, interval in ((80, "70.0±24.8"), (100, "70.0 ± 24.8")):
        row = printed(summary.grid, width).splitlines()[-1]
        assert row.count(interval) == len(methods)


def printed(grid: Grid, width: int, encoding: str = "utf-8") -> str:
    """What a terminal of some columns shows of a table."""
    file = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="legible")
    console = Terminal(width=width, file=file, color_system=None)
    grid.render(console)
    file.seek(0)
    return file.read()


@pytest.mark.parametrize("width", [20, 30, 40, 50, 60, 80])
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_no_figure_is_broken_on_a_narrow_terminal(
    finished: RunWriter, width: int, encoding: str
) -> None:
    grid = finished.summary().grid
    shown = printed(grid, width, encoding)
    assert all(len(line) <= max(width, 12) for line in shown.splitlines())
    figures = re.findall(r"[+-]?\d+\.\d+", " ".join(c.text for row in grid.rows for c in row))
    assert sorted(re.findall(r"(?<![\d.])-?\d+\.\d+|\+\d+\.\d+", shown.replace("+-", "± "))) == (
        sorted(figures)
    )


def test_accuracy_table_csv(finished: RunWriter) -> None:
    write_report(finished.run_dir)
    path = finished.run_dir / "accuracy_table.csv"
    assert path.read_text().splitlines()[0] == (
        "partition,method,n_train,n_val,val_accuracy,test_accuracy,test_ci95,"
        "seeds,trials,trials_stopped_early,config,test_ci95_seeds,test_ci95_images,"
        "search_seconds,final_seconds,saved_seconds,alpha,ema,best"
    )
    rows = {(row["partition"], row["method"]): row for row in rows_of(path)}
    llrd = rows["10", "llrd"]
    assert json.loads(llrd.pop("config"))["llrd_decay"] == 0.9
    assert llrd == {
        "partition": "10",
        "method": "llrd",
        "n_train": "100",
        "n_val": "360",
        "val_accuracy": "0.940000",
        "test_accuracy": "0.940000",
        "test_ci95": "0.024841",
        "test_ci95_seeds": "0.024841",
        "test_ci95_images": "",
        "seeds": "3",
        "trials": "3",
        "trials_stopped_early": "1",
        "search_seconds": "2.000000",
        "final_seconds": "9.600000",
        "saved_seconds": "1.000000",
        "alpha": "",
        "ema": "",
        "best": "True",
    }
    assert rows["1", "seed_llrd"]["test_ci95"] == ""
    counts = {"partition", "method", "seeds", "trials", "trials_stopped_early"}
    counts |= {"search_seconds", "final_seconds", "saved_seconds", "best"}
    empty = rows["10", "seed_llrd"]
    assert all(empty[column] == "" for column in empty.keys() - counts)


def test_rows_and_columns_follow_the_experiment(finished: RunWriter) -> None:
    finished.experiment(["seed_llrd", "frozen", "llrd"], [10, 0.5, 1])
    report = write_report(finished.run_dir)
    assert report.grid.header[2:5] == ["seed_llrd", "frozen", "llrd"]
    assert [row[0].text for row in report.grid.rows] == ["10", "0.5", "1"]
    assert list(finished.table()["method"][:3]) == ["seed_llrd", "frozen", "llrd"]


def test_bold_is_the_best_method_by_validation(finished: RunWriter) -> None:
    first, second = finished.summary().grid.rows
    assert [cell.bold for cell in first] == [False, False, False, True, False, False]
    assert [cell.bold for cell in second] == [False, False, False, True, False, False]


def test_trials_csv(finished: RunWriter) -> None:
    finished.trial("10/seed_llrd", 0, [0.25], status=None)
    finished.trial("5/gone", 0, [0.5])
    write_report(finished.run_dir)
    path = finished.run_dir / "trials.csv"
    assert path.read_text().splitlines()[0] == (
        "partition,method,trial,status,samples,val_accuracy,val_loss,seconds,origin,reason,config"
    )
    rows = rows_of(path)
    statuses = {(row["partition"], row["method"], row["trial"]): row["status"] for row in rows}
    assert len(rows) == len(statuses) == 9
    assert statuses["10", "llrd", "1"] == "stopped"
    assert statuses["10", "llrd", "2"] == "failed"
    assert statuses["10", "seed_llrd", "0"] == "running"
    assert rows[-1]["method"] == "gone"


def test_gain_is_of_the_method_the_experiment_names(finished: RunWriter) -> None:
    finished.experiment(["frozen", "llrd", "seed_llrd"], [1, 10], report={"gain": "seed_llrd"})
    summary = finished.summary()
    assert [row[-1].text for row in summary.grid.rows] == ["-6.0", "–"]


def test_no_gain_without_a_pair(finished: RunWriter) -> None:
    finished.experiment(["llrd", "seed_llrd"], [1, 10])
    markdown = finished.summary().markdown()
    assert "gain" not in markdown
    assert "below" not in markdown


ZERO_SHOT = {"blocks": "none", "solver": "none", "head_start": "zero_shot"}


@pytest.mark.parametrize("config", [{}, ZERO_SHOT])
def test_zero_shot_is_no_baseline(finished: RunWriter, config: dict[str, Any]) -> None:
    finished.experiment(["zero_shot", "frozen", "llrd"], [1, 10])
    finished.winner("1/zero_shot", 0.7, config)
    finished.final_fits("1/zero_shot", [0.71], weight_distance=0.0, steps_chosen=0)
    summary = finished.summary()
    assert "The gain is llrd minus frozen on test, paired by seed" in summary.notes
    assert not any("zero_shot is above" in line for line in summary.notes)


def test_zero_shot_has_the_interval_of_the_images(finished: RunWriter) -> None:
    finished.test_images()
    finished.experiment(["zero_shot", "frozen", "llrd"], [1, 10])
    for cell in ("1/zero_shot", "10/zero_shot"):
        finished.winner(cell, 0.9, ZERO_SHOT)
        finished.final_fits(cell, [0.9, 0.9, 0.9])
    report = write_report(finished.run_dir)
    # 1.96 * sqrt(0.9 * 0.1 / 100) = 5.9 points
    assert report.grid.rows[0][2].text == "90.0 ± 5.9"
    row = finished.table().iloc[0]
    assert row.test_ci95_seeds == 0
    assert row.test_ci95 == row.test_ci95_images == pytest.approx(0.0588, rel=0.05)
    assert "On test zero_shot is above frozen at 1% and llrd at 1%" in report.notes
    paired = "The gain is llrd minus frozen on test, paired by seed and by image"
    assert paired in report.notes


def test_interval_joins_seeds_and_images(finished: RunWriter) -> None:
    finished.test_images()
    report = write_report(finished.run_dir)
    row = finished.table().set_index(["partition", "method"]).loc[(10, "llrd")]
    # 92 images always right, 94th and 95th in 2 and 1 of 3 seeds
    assert row.test_ci95_seeds == pytest.approx(0.0248, abs=1e-4)
    assert row.test_ci95_images == pytest.approx(1.96 * 0.0222, rel=0.05)
    assert row.test_ci95 == pytest.approx(0.0501, rel=0.05)
    images = "the 100 test images (bootstrap over test images, 2000 resamples)"
    assert report.notes[2] == f"{SOURCES} (Student t) and {images}"
    assert "intervals over seeds" not in report.markdown()


def test_the_notes_count_the_groups_of_test_images(finished: RunWriter) -> None:
    finished.test_images(burst=4)
    images = "the 100 test images in 25 groups (bootstrap over groups, 2000 resamples)"
    assert finished.summary().notes[2] == f"{SOURCES} (Student t) and {images}"


def test_validation_images_are_a_column_where_they_differ(
    finished: RunWriter,
) -> None:
    assert "validation images" not in finished.summary().grid.header
    for cell, seeds in (("1/frozen", 3), ("1/llrd", 3), ("1/seed_llrd", 1)):
        for seed in range(seeds):
            finished.edit_fit(cell, seed, n_val=4)
    grid = finished.summary().grid
    assert grid.header[2] == "validation images"
    assert [row[2].text for row in grid.rows] == ["4", "360"]


def test_a_table_of_probes_describes_their_winners(finished: RunWriter) -> None:
    finished.experiment(["frozen"], [1, 10])
    assert "| frozen: linear probe, head lr 1e-2" in finished.summary().markdown()


def test_run_that_has_only_begun(writer: RunWriter) -> None:
    writer.experiment(["frozen", "llrd"], [1, 10])
    report = write_report(writer.run_dir)
    assert writer.table()["test_accuracy"].isna().all()
    cells = "1/frozen, 1/llrd, 10/frozen and 10/llrd"
    why = "no trial was made; --resume makes them, given the time"
    assert report.missing == [f"There is no result for {cells}: {why}"]
    assert (writer.run_dir / "accuracy.png").exists()


def test_fits_of_different_winners_have_a_note(
    finished: RunWriter,
) -> None:
    finished.edit_fit("10/llrd", 1, fit_key="b2")
    assert "The final fits of 10/llrd have different winners" in (finished.summary().markdown())


def test_loss_too_small_to_print_has_a_note(
    finished: RunWriter,
) -> None:
    for seed, accuracy in enumerate((0.8999, 0.9099, 0.9199)):
        scores = {"test": SetScore(accuracy, predictions(accuracy))}
        finished.edit_fit("10/llrd", seed, tests=scores)
    notes = finished.summary().notes
    losses = "at 1% (by 1.0 points on test) and at 10% (by under 0.1 points on test)"
    assert f"llrd is below frozen {losses}" in notes


def test_writing_twice_changes_nothing_and_leaves_no_temporary_file(finished: RunWriter) -> None:
    before = set(finished.run_dir.iterdir())
    first = write_report(finished.run_dir).markdown()
    assert write_report(finished.run_dir).markdown() == first
    assert {path.name for path in set(finished.run_dir.iterdir()) - before} == {
        "accuracy_table.csv",
        "accuracy_table.md",
        "trials.csv",
        "accuracy.png",
        "report.html",
    }


def test_no_footnote_and_no_name_changes_the_report(writer: RunWriter) -> None:
    run_dir = writer.run_dir.rename(writer.run_dir.with_name("cost_$5_$ [red]|#<b>"))
    writer.run_dir = run_dir
    writer.experiment(["frozen"], [10])
    writer.final_fits("10/frozen", [0.5])
    for text in HOSTILE[:-1]:
        writer.event(Footnote(text))
    report = write_report(run_dir)  # and the plot, whose title is no TeX
    text = (run_dir / "accuracy_table.md").read_text()
    assert text.startswith(r"# cost\_\$5\_\$ \[red\]\|\#\<b\>: test accuracy (%)")
    assert "\x1b" not in text
    assert "\n## Injected" not in text
    file = io.StringIO()
    report.render(Terminal(file=file, force_terminal=True, color_system=None, width=200))
    assert file.getvalue().replace("\n", "").isprintable()
    assert "cost_$5_$ [red]|#<b>:" in file.getvalue()


def test_shots_are_rows_of_their_own(writer: RunWriter) -> None:
    writer.experiment(["frozen", "llrd"], [], data={"partitions": [10, 50], "shots": [1, 4]})
    for place, cell in enumerate(("1shot", "4shot", "10", "50")):
        for method, config in (("frozen", PROBE), ("llrd", TUNED)):
            accuracy = 0.4 + 0.1 * place + 0.3 * (method == "llrd")
            writer.trial(f"{cell}/{method}", 0, [accuracy])
            writer.winner(f"{cell}/{method}", accuracy, config)
            writer.final_fits(f"{cell}/{method}", [accuracy] * 3)
    report = write_report(writer.run_dir)
    text, rows = report.markdown(), rows_of(writer.run_dir / "accuracy_table.csv")
    assert [row["partition"] for row in rows[::2]] == ["1shot", "4shot", "10", "50"]
    for title in ("| 1 shot |", "| 4 shots |", "| 10% |", "| 50% |"):
        assert title in text
    assert (
        "llrd gains over frozen, in points: 30.0 at 1 shot (30.0 to 30.0), 30.0 at 4 shots" in text
    )
    # More images are compared among percentages alone.
    assert "llrd still gains 10.0 points from 10% to 50%" in text
    assert "N shots are N training images of each class" in text
