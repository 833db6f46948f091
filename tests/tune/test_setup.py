"""What is checked of an experiment and its data before weights are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from data import load_dataset
from errors import InputError
from run_search import main
from search_spaces import Experiment, load_experiment
from tests.runs.helpers import DIGITS
from tune import setup
from tune.setup import _few_shots, prepare


class EncoderAskedForError(Exception):
    """The checks are over: the encoder's turn has come."""


@pytest.fixture(autouse=True)
def no_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*_: Any) -> None:
        raise EncoderAskedForError

    monkeypatch.setattr(setup, "load_pretrained", load)


def photos(folder: Path, partitions: Sequence[float], burst: int | None = None) -> Experiment:
    """An experiment on 200 training photos of four classes, in bursts of so many."""
    rows = [
        f"{split}{n},{n * 4 // count},{split}" + (f",{split} {n // burst}" if burst else "")
        for split, count in (("train", 200), ("val", 20), ("test", 20))
        for n in range(count)
    ]
    header = "path,label,split" + (",group" if burst else "")
    (folder / "photos.csv").write_text("\n".join([header, *rows]))
    source = f"csv:{folder / 'photos.csv'}"
    return load_experiment(DIGITS, overrides={"data.source": source, "data.partitions": partitions})


def refused(experiment: Experiment) -> str:
    with pytest.raises(InputError) as error:
        prepare(experiment)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_partitions_with_one_training_set_are_refused(tmp_path: Path) -> None:
    assert refused(photos(tmp_path, [1, 2, 50, 50.1, 60])) == (
        "data.partitions: 1 and 2% are the same 4 training images, 50 and 50.1% the same 100 (a "
        "partition is of whole images, at least one of every class); allowed: one partition for "
        "each training set, drop the others"
    )


def test_partitions_with_the_same_groups_are_refused(tmp_path: Path) -> None:
    assert refused(photos(tmp_path, [1, 10, 20, 31, 32], burst=10)) == (
        "data.partitions: 1, 10 and 20% are the same 40 training images, 31 and 32% the same 60 (a "
        "partition is of whole groups, at least one of every class); allowed: one partition for "
        "each training set, drop the others"
    )


def test_what_was_searched_before_is_still_evaluated(tmp_path: Path) -> None:
    with pytest.raises(EncoderAskedForError):
        prepare(photos(tmp_path, [1, 2]), searches=False)


@pytest.mark.parametrize("burst", [None, 10])
def test_partitions_of_different_sizes_pass(burst: int | None, tmp_path: Path) -> None:
    with pytest.raises(EncoderAskedForError):
        prepare(photos(tmp_path, [1, 25, 50, 75, 100], burst))


def test_the_built_in_default_passes() -> None:
    experiment = load_experiment(DIGITS)
    assert experiment.data.partitions == (1, *range(10, 101, 10))
    with pytest.raises(EncoderAskedForError):
        prepare(experiment)


@pytest.mark.parametrize("more", [["--dry-run"], []])
def test_the_command_line_says_so_in_one_line(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--out", str(tmp_path), "--partitions", "1,1.05,10", *more]) == 2
    line = capsys.readouterr().err
    assert line.startswith("error: data.partitions: 1 and 1.05% are the same 10 training images (")
    assert line.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_classes_with_fewer_images_than_shots_are_told() -> None:
    experiment = load_experiment(DIGITS, ["data.shots=[1, 99]"])
    (line,) = _few_shots(experiment, load_dataset(experiment.data))
    assert line.startswith("99 shots: 4 classes have fewer training images, the fewest 'eight' wit")
