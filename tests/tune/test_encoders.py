"""Several encoders: what can be known is said before any of them is searched."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

import tune.encoders
from errors import InputError
from models.config import ROOT
from search_spaces import Experiment, load_experiment
from tests.runs.helpers import DIGITS
from tests.tune.storage.copies import content_of, copy, journal, run_in
from tune.encoders import plan_encoders, run_encoders
from tune.run import Options
from tune.storage.mirror import place_of_copy
from tune.storage.storage import Storage


@pytest.mark.parametrize("begin", [run_encoders, plan_encoders])
def test_a_broken_encoder_is_refused_before_another_is_searched(
    begin: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, broken = ROOT / "models/glyph_clip", tmp_path / "broken"
    broken.mkdir()
    for file in sound.glob("open_clip*"):
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[: len(content) // (1 + (file.suffix != ".json"))])
    for name in ("run", "dry_run"):
        monkeypatch.setattr(tune.encoders, name, lambda *_: pytest.fail("it began"))
    models = {"sound": {"name": f"local-dir:{sound}"}, "broken": {"name": f"local-dir:{broken}"}}
    experiment = load_experiment(DIGITS, overrides={"models": models})
    with pytest.raises(InputError, match=r"cannot load local-dir:.*broken"):
        begin(experiment, Options(out=tmp_path / "out"), Console())  # type: ignore[operator]
    assert not (tmp_path / "out").exists()


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> Experiment:
    """Of the encoders `a` and `b`, whose weights are not looked at."""
    monkeypatch.setattr(tune.encoders, "_check_weights", lambda _: None)
    models = {name: {"name": f"local-dir:{ROOT / 'models/glyph_clip'}"} for name in "ab"}
    return load_experiment(DIGITS, overrides={"models": models, "name": "two"})


def test_what_every_encoder_has_begun_is_fetched_before_the_first_goes_on(
    two: Experiment, folder: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        copy(run_in(tmp_path / "gone" / name), folder / "two" / name)

    def begin(experiment: Experiment, options: Options, console: Console) -> None:
        here = [options.out / name / "events.jsonl" for name in "ab"]
        assert [path.read_text() for path in here] == [journal(0)] * 2
        place = place_of_copy(options.out / experiment.name, str(options.storage))
        assert place.path.endswith("two/a")
        raise KeyboardInterrupt

    monkeypatch.setattr(tune.encoders, "run", begin)
    monkeypatch.setattr(Storage, "at", lambda place: at(place, folder))
    options = Options(out=tmp_path / "here", storage="s3://runs", resume=True)
    with pytest.raises(KeyboardInterrupt):
        run_encoders(two, options, Console(quiet=True))


def at(place: str | Path, folder: Storage) -> Storage:
    """The fixture's folder, by a URL."""
    return replace(folder, path=f"{folder.path}{str(place).removeprefix('s3://runs')}")


@pytest.mark.parametrize(
    ("name", "message"),
    [("two/third", "has the encoder third; name it"), ("two", "has a run of one encoder, or --na")],
)
def test_a_copy_with_other_encoders_is_refused(
    name: str, message: str, two: Experiment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune.encoders, "run", lambda *_: pytest.fail("it began"))
    storage = tmp_path / "copies"
    copy(run_in(tmp_path / "gone"), Storage.at(storage / name))
    options = Options(out=tmp_path / "here", storage=str(storage), resume=True)
    with pytest.raises(InputError, match=message):
        run_encoders(two, options, Console(quiet=True))
    assert not (tmp_path / "here").exists()


def test_the_tables_of_all_encoders_are_copied_beside_their_runs(
    two: Experiment, folder: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = []

    def report(_: object) -> str:
        (tmp_path / "here/two/accuracy_table.csv").write_text("table")
        return "summary"

    monkeypatch.setattr(tune.encoders, "run", lambda _, options, __: places.append(options.storage))
    monkeypatch.setattr(tune.encoders, "_choose", lambda *_: {"a": {"llrd": ["10"]}, "b": {}})
    monkeypatch.setattr(tune.encoders, "_searched", lambda *_: {})
    monkeypatch.setattr(tune.encoders, "read_results", lambda _: None)
    monkeypatch.setattr(tune.encoders, "write_run", report)
    monkeypatch.setattr(Storage, "at", lambda place: at(place, folder))
    options = Options(out=tmp_path / "here", storage="s3://runs")
    assert run_encoders(two, options, Console(quiet=True)) == "summary"
    assert places == ["s3://runs/two"] * 3
    assert {*(folder / "two").listing()} == {"experiment.yaml", "accuracy_table.csv"}
    assert content_of(folder / "two", "accuracy_table.csv") == b"table"
