"""Results of final fits are read as they were written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from errors import InputError
from records import (
    Cell,
    SetScore,
    final_fit_path,
    find_final_fit,
    read_final_fits,
    write_final_fit,
)
from records.final_fit import read_final_fit
from tests.records.results import a_result

CELL = Cell(12.5, "llrd")
TUNED = a_result(
    CELL,
    1,
    alpha=0.5,
    ema=True,
    gradient_norms={"block 11": {"attn": 0.5, "ln": 0.1}},
    tests={
        "test": SetScore(0.5, [1, 0], [0.75, 1.0], [0.625, 0.9999]),
        "wild": SetScore(1.0, [2]),
    },
    temperature=1.5,
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    (tmp_path / "final_fits").mkdir()
    return tmp_path


def test_what_is_written_is_read(run_dir: Path) -> None:
    for result in (TUNED, a_result(CELL, 0)):
        write_final_fit(run_dir, result)
        path = run_dir / "final_fits" / f"12.5-llrd-seed{result.seed}.json"
        assert read_final_fit(path) == find_final_fit(path) == result
    names = ["accuracy", "predictions", "confidences", "calibrated", "log_likelihoods"]
    assert list(json.loads(path.read_text())["tests"]["test"]) == names


def test_a_result_of_before_lacks_what_came_later(run_dir: Path) -> None:
    write_final_fit(run_dir, TUNED)
    path = final_fit_path(run_dir, CELL, 1)
    content = json.loads(path.read_text())
    del content["temperature"]
    for score in content["tests"].values():
        del score["confidences"], score["calibrated"], score["log_likelihoods"]
    path.write_text(json.dumps(content))
    tests = {name: SetScore(s.accuracy, s.predictions) for name, s in TUNED.tests.items()}
    assert read_final_fit(path) == replace(TUNED, tests=tests, temperature=None)


def test_the_test_split_counts_the_images(run_dir: Path) -> None:
    assert (TUNED.n_test, TUNED.cell) == (2, CELL)


def test_fits_are_found_by_cell_and_seed(run_dir: Path) -> None:
    assert read_final_fits(run_dir) == {}
    for seed in (10, 2, 0):
        write_final_fit(run_dir, a_result(CELL, seed))
    write_final_fit(run_dir, a_result(Cell(100, "frozen"), 0))
    found = read_final_fits(run_dir)
    assert {cell: [*by_seed] for cell, by_seed in found.items()} == {
        CELL: [0, 2, 10],
        Cell(100, "frozen"): [0],
    }


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("{", "Expecting"),
        ("\x00", "Expecting"),
        ("[1]", "it has no partition, method"),
        ("{}", "it has no partition, method"),
    ],
)
def test_a_damaged_file_is_named_and_is_no_result(run_dir: Path, content: str, told: str) -> None:
    path = final_fit_path(run_dir, CELL, 1)
    assert find_final_fit(path) is None
    path.write_text(content)
    assert find_final_fit(path) is None
    with pytest.raises(InputError, match=f"seed1.json is not the result of a final fit: {told}"):
        read_final_fits(run_dir)


def test_a_result_without_the_test_split_is_refused(run_dir: Path) -> None:
    write_final_fit(run_dir, a_result(CELL, 0, tests={"wild": SetScore(1.0, [2])}))
    with pytest.raises(InputError, match=r"it has no tests\.test"):
        read_final_fits(run_dir)


def test_what_other_programs_leave_is_passed_over(run_dir: Path) -> None:
    write_final_fit(run_dir, TUNED)
    for name in ("._12.5-llrd-seed1.json", "notes.json", "12.5-llrd-seed1 (copy).json"):
        (run_dir / "final_fits" / name).write_bytes(b"\0")
    assert read_final_fits(run_dir) == {CELL: {1: TUNED}}


def test_a_result_under_the_name_of_another_is_refused(run_dir: Path) -> None:
    write_final_fit(run_dir, TUNED)
    final_fit_path(run_dir, CELL, 1).rename(final_fit_path(run_dir, CELL, 2))
    with pytest.raises(InputError, match=r"seed2.json holds the final fit of 12.5/llrd, seed 1$"):
        read_final_fits(run_dir)


@pytest.mark.parametrize("accuracy", [1.5, -0.1, None])
def test_an_accuracy_is_a_share(run_dir: Path, accuracy: float | None) -> None:
    write_final_fit(run_dir, TUNED)
    path = final_fit_path(run_dir, CELL, 1)
    content = json.loads(path.read_text())
    content["tests"]["wild"]["accuracy"] = accuracy
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"seed1.json is not .*: accuracy: .* is not in 0 to 1"):
        read_final_fits(run_dir)
    assert find_final_fit(path) is None
