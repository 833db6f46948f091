"""`export` and `predict`: which winner they take, and what they make of images."""

from __future__ import annotations

import csv
import io
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from models.package import Card
from records import Cell, weights_path
from run_search import main
from tests.command_line.conftest import CLASSES
from tests.command_line.test_mistakes import check_refused

# Which winner


@pytest.mark.parametrize(
    ("options", "cell", "seed"),
    [
        ([], "100/llrd", 0),
        (["--method", "best", "--partition", "100"], "100/llrd", 0),
        (["--method", "frozen"], "100/frozen", 0),
        (["--partition=10", "--seed=1"], "10/frozen", 1),
        (["--shots", "4"], "4shot/frozen", 0),
    ],
)
def test_export_takes_the_winner_that_is_asked_for(
    options: list[str], cell: str, seed: int, run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[Any] = []
    monkeypatch.setattr("models.package.write_package", lambda *given: taken.extend(given))
    assert main(["export", str(run_dir), "--out", str(run_dir / "new"), *options]) == 0
    out, weights, card = taken
    assert out == run_dir / "new"
    assert weights == weights_path(run_dir, Cell.parse(cell), seed)
    assert isinstance(card, Card)
    assert (card.method, card.seed) == (cell.split("/")[1], seed)
    assert card.accuracy.startswith("75.0 ± ")
    assert card.seed_accuracy == ("70.0%" if seed else "80.0%")


def test_of_an_unfinished_run_the_last_row_with_results_is_taken(
    run_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in (run_dir / "final_fits").glob("100-*"):
        file.unlink()
    taken: list[Any] = []
    monkeypatch.setattr("models.package.write_package", lambda *given: taken.extend(given))
    assert main(["export", str(run_dir), "--out", str(run_dir / "new")]) == 0
    assert taken[1] == weights_path(run_dir, Cell(10, "frozen"), 0)
    assert main(["export", str(run_dir), "--method=llrd", "--out", str(run_dir / "new")]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "RUN"], "the following arguments are required: --out"),
        (["export", "RUN/no", "--out", "RUN/new"], "RUN/no: no such folder"),
        (["export", "RUN/winners", "--out", "RUN/new"], "RUN/winners holds no run"),
        (
            ["export", "RUN", "--partition", "50", "--out", "RUN/new"],
            "--partition, --shots: RUN has no 50%; allowed: 4 shots, 10%, 100%",
        ),
        (["export", "RUN", "--shots=2", "--out=RUN/new"], "RUN has no 2 shots; allowed: 4 shots"),
        (["export", "RUN", "--shots=4", "--partition=10", "--out=RUN/new"], "not allowed with"),
        (["export", "RUN", "--partition=0", "--out=RUN/new"], "'0': expected a percentage"),
        (["export", "RUN", "--shots=0", "--out=RUN/new"], "'0': expected 1 or more"),
        (
            ["export", "RUN", "--method=lrd", "--out=RUN/new"],
            "--method: RUN has no 'lrd'; did you mean 'llrd'? allowed: best, frozen, llrd",
        ),
        (
            ["export", "RUN", "--seed=7", "--out=RUN/new"],
            "--seed: RUN has no weights of 100/llrd, seed 7; allowed: 0, 1",
        ),
        (["export", "RUN", "--out=RUN"], "--out: RUN is not empty; name a new folder"),
        (["export", "RUN", "--out=RUN/events.jsonl"], "--out: RUN/events.jsonl is not a folder"),
        (["predict", "RUN"], "the following arguments are required: IMAGES"),
        (["predict", "RUN/no", "RUN"], "RUN/no: no such file or folder"),
        (["predict", "RUN/winners", "RUN"], "RUN/winners holds no run"),
        (["predict", "RUN", "RUN/no.jpg"], "RUN/no.jpg: no such file or folder"),
        (["predict", "RUN", "RUN/winners"], "no images in RUN/winners"),
        (["predict", "RUN", "RUN", "--method=lrd"], "did you mean 'llrd'?"),
        (["predict", "RUN", "RUN", "--top=0"], "'0': expected 1 or more"),
        (["predict", "RUN", "RUN", "--threshold=2"], "'2': expected a number from 0 to 1"),
        (["predict", "RUN", "RUN", "--threshold=nan"], "'nan': expected a number from 0 to 1"),
        (["predict", "RUN", "RUN", "--out=RUN"], "--out: RUN is a folder; name a file"),
        (["predict", "RUN", "RUN", "--out=RUN/p.jpg"], "p.jpg does not end in .csv"),
        (["predict", "RUN", "RUN", "--out=/dev/null"], "--out: /dev/null is no regular file"),
        (["predict", "RUN", "RUN", "--out=RUN/trials.csv"], "a run keeps its own trials.csv"),
        (["predict", "RUN", "/dev/zero"], "/dev/zero: neither a file nor a folder"),
        (["report", "RUN", "RUN", "--out=RUN/experiment.yaml"], "does not end in .html"),
        (["report", "RUN", "RUN", "--out=RUN/report.html"], "a run keeps its own report.html"),
        (["predict", "RUN", "RUN", "--out=/proc/x/y.csv"], "--out: cannot write to /proc"),
        (["predict", "RUN/events.jsonl", "RUN", "--seed=1"], "is one model; --partition,"),
        (["predict", "RUN/events.jsonl", "RUN/events.jsonl"], "cannot be read as an adapted model"),
    ],
)
def test_what_is_wrong_is_one_line(
    arguments: list[str], message: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [each.replace("RUN", str(run_dir)) for each in arguments]
    check_refused(given, message.replace("RUN", str(run_dir)), capsys)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_what_ends_a_batch_job_interrupts_an_export(
    number: signal.Signals,
    run_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("models.package.write_package", lambda *_: signal.raise_signal(number))
    assert main(["export", str(run_dir), "--out", str(run_dir / "new")]) == 130
    assert "interrupted; nothing is lost, continue with: " in capsys.readouterr().err


@pytest.mark.parametrize("command", ["export", "predict"])
def test_weights_in_the_place_of_others_are_refused(
    command: str, run_dir: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = (weights_path(run_dir, Cell(p, "frozen"), 0) for p in (100, 10))
    ours.write_bytes(theirs.read_bytes())
    rest = {"export": ["--out", str(run_dir / "new")], "predict": [str(photos)]}[command]
    assert main([command, str(run_dir), *rest, "--method=frozen", "--partition=100"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: {ours} holds the weights of 10/frozen, seed 0; put the file back that was there"
    )


def test_a_run_without_weights_says_what_keeps_them(
    run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (run_dir / "winners").glob("100-llrd-*"):
        file.unlink()
    command = ["export", str(run_dir), "--out", str(run_dir / "new")]
    check_refused(command, "no weights of 100/llrd, seed 0; weights are kept by final.", capsys)
    shutil.rmtree(run_dir / "winners")
    check_refused(command, f"{run_dir} holds no weights: --resume makes its final fits", capsys)


# What becomes of images


def read(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))


def test_predictions_are_a_table_whose_cells_are_no_formulas(
    run_dir: Path, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(photos)
    given = [str(run_dir), "=a.png", "inner", "broken.jpg", "--shots=4"]
    assert main(["predict", *given, "--out=../new/p.csv", "--top=2", "--batch=1"]) == 0
    header, *rows = read(photos.parent / "new" / "p.csv")
    assert header == ["path", "label", "probability", "label_2", "probability_2"]
    assert [row[:3] for row in rows] == [
        ["'=a.png", "'=2+2", "0.7870"],
        ["inner/b.jpg", "'=2+2", "0.7870"],
    ]
    assert rows[0][4] == "0.1065"
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "1 hidden folder passed over: .hidden",
        "passed over: broken.jpg: not an image, or of an unknown format",
        "2 images classified, 0 of them unsure; 1 cannot be read; written to ../new/p.csv",
    ]


def test_below_the_threshold_a_label_is_unsure(run_dir: Path, photos: Path) -> None:
    out = photos.parent / "p.csv"
    command = ["predict", str(run_dir), str(photos), "--out", str(out)]
    for threshold, mark in (("0.78", ""), ("0.79", "unsure")):
        assert main([*command, "--threshold", threshold]) == 0
        header, *rows = read(out)
        assert header[-1] == "unsure"
        assert {(row[1], row[-1]) for row in rows} == {(CLASSES[2], mark)}


def test_without_out_a_table_is_printed_as_text(
    run_dir: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(photos / "=a.png")
    for sure, label in ((1, "[bold]b"), (2, "c\\x1b[31m")):
        cell = {1: "frozen", 2: "llrd"}[sure]
        weights = str(weights_path(run_dir, Cell(100, cell), 0))
        assert main(["predict", weights, file, "--top", "99"]) == 0
        header, row = capsys.readouterr().out.splitlines()
        assert header.split() == [
            *("label", "probability", "label_2", "probability_2"),
            *("label_3", "probability_3", "path"),
        ]
        assert row.split()[:2] == [label, "0.7870"]
        assert row.endswith(f"  {file}")
        assert row.index(file) == header.index("path")
    assert main(["predict", str(run_dir), file, "--threshold=1"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:2] == ["c\\x1b[31m?", "0.7870"]


def test_if_no_image_can_be_read_the_code_is_1(
    run_dir: Path, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["predict", str(run_dir), str(photos / "broken.jpg")]) == 1
    assert "0 images classified" in capsys.readouterr().err


def test_an_exported_folder_predicts_as_the_run(
    run_dir: Path, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.package.folder.write_onnx", lambda *_: None)  # it takes seconds
    package, ours, theirs = (photos.parent / name for name in ("package", "a.csv", "b.csv"))
    package.mkdir()
    assert main(["export", str(run_dir), "--out", str(package)]) == 0
    assert main(["predict", str(run_dir), str(photos), "--top=3", f"--out={ours}"]) == 0
    assert main(["predict", str(package), str(photos), "--top=3", f"--out={theirs}"]) == 0
    assert len(read(ours)) == 3
    assert read(ours) == read(theirs)
