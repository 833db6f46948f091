"""A search from Python: it asks for what the command line asks for, and returns frames."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from errors import InputError
from run_search import main
from tests.command_line.conftest import CLASSES, SURE, Calls
from tune import load_run, run_search


def test_arguments_ask_for_what_options_ask_for(
    calls: Calls, file: str, run_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = run_dir.parent
    options = "--partitions 10,100 --methods llrd --trials 7 --seed 3 --name small --resume"
    words = ["--set=final.seeds=2", "--set=methods.llrd.space.lr=1e-05", "--model=ViT-B-16:openai"]
    assert main([file, *options.split(), *words, "--out", str(out)]) == 0
    asked = calls.experiment, calls.options
    calls.experiment = calls.options = None
    capsys.readouterr()
    run = run_search(
        file,
        partitions=[10, 100],
        methods=["llrd"],
        trials=7,
        seed=3,
        name="small",
        resume=True,
        settings={"final.seeds": 2, "methods.llrd.space.lr": 1e-5},
        model="ViT-B-16:openai",
        out=out,
    )
    assert (calls.experiment, calls.options) == asked
    assert run.directory == run_dir
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"trials": 0}, "--trials: 0"),
        ({"time_budget": 0}, "--time-budget: 0; allowed: seconds, more than 0"),
        ({"model": " "}, "it is empty; expected a model"),
        ({"settings": {"final.seeds": {1}}}, "settings: final.seeds: {1}; allowed"),
        ({"settings": {"final.sed": 1}}, "did you mean 'seeds'?"),
        ({"space": "nothing"}, "'nothing': neither a search space nor a source of images"),
        ({"space": "folder:nowhere", "quick": True}, "nowhere"),
        ({"out": "/proc/none"}, "--out: cannot write to /proc"),
        ({"partitions": "1,9"}, "partitions: '1,9'; allowed: a list, as in partitions=[1, 9]"),
        ({"methods": "llrd,a"}, "methods: 'llrd,a'; allowed: a list, as in methods=['llrd', 'a']"),
        ({"time_budget": "1h"}, "--time-budget: '1h'; allowed: seconds, more than 0"),
        ({"settings": ["a"]}, "settings: ['a']; allowed: {'KEY.PATH': VALUE}"),
        ({"shots": 4}, "shots: 4; allowed: a list, as in shots=[4]"),
        ({"methods": "frozen"}, "methods: 'frozen'; allowed: a list"),
    ],
)
def test_a_mistake_is_an_input_error_before_anything_runs(
    wrong: dict[str, object], message: str, calls: Calls
) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        run_search(**wrong)  # type: ignore[arg-type]
    assert calls.experiment is None


def test_a_run_is_frames(run_dir: Path) -> None:
    run = load_run(run_dir)
    assert run.table[["partition", "method", "best"]].values.tolist() == [
        ["4shot", "frozen", True],
        ["4shot", "llrd", False],
        [10, "frozen", True],
        [10, "llrd", False],
        [100, "frozen", False],
        [100, "llrd", True],
    ]
    assert run.winners.set_index(["partition", "method"])["val_accuracy"].to_dict() == {
        ("4shot", "frozen"): 0.5,
        (10, "frozen"): 0.5,
        (100, "frozen"): 0.5,
        (100, "llrd"): 0.9,
    }
    assert "blocks" in run.winners
    assert run.trials.empty
    (missing,) = run.missing
    assert missing.startswith("There is no result for 4shot/llrd and 10/llrd")
    assert run.answer in repr(run)


def test_a_notebook_shows_answer_and_table_as_text(run_dir: Path, tmp_path: Path) -> None:
    run = load_run(run_dir.rename(tmp_path / "<b>x"))
    page = run._repr_html_()
    assert run.answer.split(". ")[0] in page
    assert "<b>75.0</b>" in page
    assert "&lt;b&gt;x/report.html" in page
    assert "<b>x" not in page


@pytest.mark.parametrize(
    ("named", "cell"),
    [
        ({}, "100/llrd"),
        ({"partition": 10}, "10/frozen"),
        ({"partition": "4shot"}, "4shot/frozen"),
        ({"shots": 4, "seed": 1}, "4shot/frozen"),
        ({"method": "frozen"}, "100/frozen"),
    ],
)
def test_a_winner_predicts(named: dict[str, float], cell: str, run_dir: Path, photos: Path) -> None:
    best = load_run(run_dir).best(**named)  # type: ignore[arg-type]
    assert str(best.cell) == cell
    assert best.classes == CLASSES
    images = [photos / "=a.png", str(photos / "inner" / "b.jpg")]
    found = best.predict(images, top=2)
    assert found["path"].tolist() == [*map(str, images)]
    assert found["label"].tolist() == [CLASSES[SURE[cell]]] * 2
    assert [*found.columns] == ["path", "label", "probability", "label_2", "probability_2"]
    assert (found["probability"] > found["probability_2"]).all()


def test_what_cannot_be_read_has_no_class(run_dir: Path, photos: Path) -> None:
    best = load_run(run_dir).best()
    with pytest.warns(UserWarning, match=r"broken\.jpg"):
        found = best.predict(photos).set_index("path")["label"]
    assert found.isna().to_dict() == {
        str(photos / "=a.png"): False,
        str(photos / "broken.jpg"): True,
        str(photos / "inner" / "b.jpg"): False,
    }
    with pytest.raises(InputError, match="no such file"):
        best.predict("nowhere.jpg")


def test_a_winner_that_is_not_there_is_an_input_error(run_dir: Path) -> None:
    run = load_run(run_dir)
    for wrong in ({"partition": 50}, {"partition": "ten"}, {"seed": 7}, {"method": "lrd"}):
        with pytest.raises(InputError, match="allowed: "):
            run.best(**wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not a run's directory"):
        load_run(run_dir / "winners")


def test_a_run_without_a_winner_has_empty_frames(run_dir: Path) -> None:
    for file in (run_dir / "final_fits").iterdir():
        file.unlink()
    journal = run_dir / "events.jsonl"
    lines = [line for line in journal.read_text().splitlines(True) if '"winner"' not in line]
    journal.write_text("".join(lines))
    run = load_run(run_dir)
    assert run.winners.empty
    assert isinstance(run.table, pd.DataFrame)
    assert "There is no answer yet" in run._repr_html_()
