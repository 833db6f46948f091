"""The runs of several encoders are read, compared and shown as one."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
import yaml

from errors import InputError
from records import Cell, EncoderSized, EncoderTimed, JournalWriter
from report.encoders import encoder_rows, promising, read_results, standings
from report.html.page import render_run
from report.summary import summarise
from report.table import accuracy_table
from tests.report.pages import Page
from tests.report.run_writer import TUNED, RunWriter


def encoder(folder: Path, name: str, probes: tuple[float, float], flops: int) -> RunWriter:
    """A run of two rows: a probe of these accuracies on validation and on test."""
    writer = RunWriter(folder / name)
    writer.event(EncoderSized(parameters=10 * flops, flops=flops))
    for row, accuracy in zip((10, 100), probes, strict=True):
        writer.validation[f"{row}/frozen"] = accuracy
        writer.final_fits(f"{row}/frozen", [accuracy] * 3)
    writer.test_images()
    writer.experiment(["frozen"], [10, 100])
    return writer


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """At 10% the small encoder is as good as the large one, at 100% it is not."""
    encoder(tmp_path, "small", (0.8, 0.8), flops=10**9)
    large = encoder(tmp_path, "large", (0.8, 0.9), flops=10**10)
    large.winner("100/llrd", 0.95, TUNED)
    large.final_fits("100/llrd", [0.95] * 3)
    (tmp_path / "large" / "experiment.yaml").write_text(
        yaml.safe_dump(
            {
                "data": {"partitions": [10, 100]},
                "methods": {"frozen": {}, "llrd": {"rows": ["100"]}},
                "identity": {},
            },
            sort_keys=False,
        )
    )
    (tmp_path / "experiment.yaml").write_text(
        "{models: {small: {}, large: {}, later: {}}, methods: {frozen: {}, llrd: {}, gda: {}}}"
    )
    return tmp_path


def test_columns_are_of_encoder_and_method(folder: Path) -> None:
    run = read_results(folder)
    assert run.methods == ("small/frozen", "large/frozen", "large/llrd")
    assert Cell(10, "large/llrd") not in [*run.cells()]
    assert run.weights(Cell(100, "large/llrd"), 1) == (
        folder / "large" / "winners" / "100-llrd-seed1.safetensors"
    )


def test_the_best_is_the_cheapest_encoder_of_those_alike(folder: Path) -> None:
    run = read_results(folder)
    assert run.best == {10: "small/frozen", 100: "large/llrd"}
    summary = summarise(run)
    assert summary.grid.header[2:] == ["encoder", "frozen", "llrd", "gain (points)"]
    texts = [[cell.text.split(" ")[0] for cell in row] for row in summary.grid.rows]
    assert [row[2:5] for row in texts] == [
        ["small", "80.0", "–"], ["large", "80.0", "–"], ["small", "80.0", "–"],
        ["large", "90.0", "95.0"],
    ]  # fmt: skip
    bold = [cell.bold for row in summary.grid.rows for cell in row[3:5]]
    assert bold == [True, False, False, False, False, False, False, True]
    assert summary.missing == [
        f"There is no result for {name}: it has not begun; --resume goes on"
        for name in ("later", "gda")
    ]
    table = accuracy_table(run)
    assert table[["encoder", "method"]].agg("/".join, axis=1).unique().tolist() == [*run.methods]
    assert pd.isna(table["alpha"]).all()


def test_blocks_are_trained_of_encoders_that_are_not_worse_than_the_best(folder: Path) -> None:
    parts = read_results(folder).parts
    equal, apart = standings(parts, 10), standings(parts, 100)
    assert promising(equal, 2) == ["small", "large"]
    assert promising(equal, 1) == ["small"]
    assert [one.encoder for one in apart] == ["large", "small"]
    assert [one.accuracy for one in apart] == pytest.approx([0.9, 0.8])
    assert apart[1].lag == pytest.approx(0.1)
    assert promising(apart, 2) == ["large"]
    assert standings(parts, 50) == []


def test_an_encoder_is_on_the_front_if_no_cheaper_one_is_as_good(folder: Path) -> None:
    assert [(row.name, row.method, row.front) for row in encoder_rows(read_results(folder))] == [
        ("small", "frozen", True),
        ("large", "llrd", True),
    ]
    encoder(folder, "later", (0.7, 0.7), flops=10**12)
    assert [row.front for row in encoder_rows(read_results(folder))] == [True, True, False]
    encoder(folder / "as dear", "later", (0.8, 0.8), flops=10**9)
    shutil.rmtree(folder / "small")
    shutil.move(folder / "as dear" / "later", folder / "small")  # the same at the same cost
    assert encoder_rows(read_results(folder))[0].front


def test_gains_are_over_the_probe_of_the_same_encoder(folder: Path) -> None:
    summary = summarise(read_results(folder))
    assert "5.0 points above a linear probe" in summary.answer
    assert any(line.startswith("large: ") and "llrd" in line for line in summary.findings)
    assert not any("small/" in line for line in summary.findings)


def test_the_page_has_a_row_and_a_mark_for_each_encoder(folder: Path) -> None:
    run = read_results(folder)
    page = Page(render_run(run, summarise(run)))
    assert "With all your labels" in page.text
    assert "large/llrd" in page.text
    assert "10 GFLOP" in page.text


def test_images_a_second_are_shown_where_they_were_timed(folder: Path) -> None:
    """The small encoder's run is one of before."""
    with closing(JournalWriter(folder / "large" / "events.jsonl")) as journal:
        journal.write(EncoderTimed(1234.4, "NVIDIA H200"))
    run = read_results(folder)
    small, large_row = encoder_rows(run)
    assert small.speed is None
    assert large_row.speed is not None
    assert (small.front, large_row.front) == (True, True)  # it goes by operations
    text = Page(render_run(run, summarise(run))).text
    assert "1 – frozen 80.0% yes –" in text
    assert "10 1,234 llrd 95.0% yes NVIDIA H200" in text


def test_what_is_no_result_of_several_encoders_is_refused(tmp_path: Path, folder: Path) -> None:
    lines = (folder / "large" / "test_images.csv").read_text().replace("3.png", "other.png")
    (folder / "large" / "test_images.csv").write_text(lines)
    with pytest.raises(InputError, match="scored on different test images"):
        read_results(folder)
    for name in ("small", "large"):
        (folder / name / "experiment.yaml").unlink()
    with pytest.raises(InputError, match="none of its encoders has features yet"):
        read_results(folder)
