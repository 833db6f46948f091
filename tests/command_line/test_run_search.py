"""The command line: exit codes, and one line on stderr where something is wrong."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tune.run
from commands.resuming import PROGRAM, how_to_go_on, interrupted_by_signals
from commands.search import parse
from errors import InputError
from run_search import main
from search_spaces import Experiment
from tests.command_line.conftest import SPACE, Calls
from tune.run import Options

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.path.relpath(sys.executable)


# What is right


def test_without_arguments_the_default_runs(
    calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    assert calls.experiment
    assert calls.experiment.name == "digits"
    assert calls.options == Options(Path("results"), False, None, None)
    output = capsys.readouterr()
    assert output.out == "the table\n"
    assert output.err == ""


def test_options_reach_the_experiment_and_the_run(calls: Calls, file: str) -> None:
    arguments = [
        "--set=final.seeds=2 --set=search.asha.rungs=2 --trials 7",
        "--partitions 1,12.5,100 --methods llrd --seed 3 --name mine",
        "--out elsewhere --resume --time-budget 2h --address auto",
    ]
    assert main([file, *" ".join(arguments).split()]) == 0
    assert calls.experiment
    experiment = calls.experiment
    assert experiment.data.partitions == (1, 12.5, 100)
    assert [type(p) for p in experiment.data.partitions] == [int, float, int]
    assert (experiment.search.trials, experiment.final.seeds, experiment.seed) == (7, 2, 3)
    assert experiment.resolved()["search"]["asha"]["rungs"] == 2
    assert experiment.name == "mine"
    assert list(experiment.methods) == ["frozen", "llrd"]  # with the probe it starts from
    assert calls.options == Options(Path("elsewhere"), True, "auto", 7200.0)
    assert not calls.dry


def test_a_dry_run_does_not_run(
    calls: Calls, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([file, "--dry-run"]) == 0
    assert calls.dry
    assert capsys.readouterr().out == ""


def test_a_cell_without_a_result_is_exit_code_1_and_said_on_stderr(
    calls: Calls, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.lines = ["There is no result for 10/frozen: all its trials failed, most often: [/x]"]
    assert main([file]) == 1
    output = capsys.readouterr()
    assert output.out == "the table\n"
    assert output.err == f"error: {calls.lines[0]}\n"


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    options = "set partitions methods trials seed name out resume time-budget address dry-run"
    for option in options.split():
        assert f"--{option}" in text
    assert "python run_search.py" in text
    assert "run_search.py report" in text
    for code in ("0 ", "1 ", "2 ", "130 "):
        assert re.search(rf"^  {code} +\w", text, re.MULTILINE)


def test_help_names_every_key_with_its_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    given = re.findall(r"^  ([a-z_A-Z.]+)(?:=(\S+|\[[^]]*\]))?(?:  |$)", text, re.M)
    defaults = dict(given)
    assert defaults["search.trials"] == "16"
    assert defaults["search.asha.rungs"] == "3"
    assert defaults["final.wise_ft"] == "[0.5, 0.75]"
    assert defaults["features.cache"] == "null"
    assert defaults["methods.NAME.space.blocks"] == "none"
    assert defaults["data.source"] == ""
    known = Experiment.model_validate({"name": "x", **SPACE}).resolved()
    del known["methods"]
    assert set(leaves(known)) - set(defaults) == {"data.extra_tests", "models"}


def leaves(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("5min", 300),
        ("2h", 7200),
        ("1.5h", 5400),
        ("1d", 86400),
        ("1h30m", 5400),
        ("1d 2h 3min 4.5s", 93784.5),
        (" 2h ", 7200),
        ("0.5", 0.5),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse(["--time-budget", text]).time_budget == seconds


@pytest.mark.parametrize(
    ("text", "values"), [("1,10,100", [1, 10, 100]), ("50", [50]), (" 1 , 2.5", [1, 2.5])]
)
def test_partitions_are_read(text: str, values: list[float]) -> None:
    assert parse(["--partitions", text]).partitions == values


def test_names_are_read() -> None:
    assert parse(["--methods", "frozen, llrd,"]).methods == ["frozen", "llrd"]


# Evaluation


@pytest.mark.parametrize(
    ("arguments", "result", "code", "words"),
    [
        (["evaluate", "DIR"], True, 0, ""),
        (["evaluate", "DIR"], False, 1, ""),
        (["evaluate", "DIR", "--address", "auto"], True, 0, ""),
        (["evaluate", "DIR"], InputError("DIR: has no final\nfits"), 2, "DIR: has no final fits"),
        (["evaluate"], True, 2, "the following arguments are required: RESULTS_DIR"),
        (["evaluate", "DIR", "--resume"], True, 2, "--resume: unknown option"),
        (
            ["evaluate", "DIR"],
            KeyboardInterrupt(),
            130,
            f"continue with: {PYTHON} run_search.py eval",
        ),
    ],
)
def test_evaluate_says_it_by_its_exit_code(
    arguments: list[str],
    result: bool | BaseException,
    code: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def instead(run_dir: Path, address: str | None, console: Any) -> bool:
        assert run_dir == Path("DIR")
        assert address == ("auto" if "--address" in arguments else None)
        if isinstance(result, BaseException):
            raise result
        return result

    monkeypatch.setattr("tune.evaluate.evaluate", instead)
    monkeypatch.setattr("search_spaces.recorded.read_recorded", lambda run_dir: None)
    assert main(arguments) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (code > 1)
    assert words in "".join(lines)


# Interruptions


@pytest.mark.parametrize("already", [[], ["--resume"]])
def test_an_interrupted_run_says_how_to_continue(
    file: str, already: list[str], calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    calls.error = KeyboardInterrupt()
    arguments = [file, "--set", "methods.llrd.space.lr={uniform: [1e-4, 1e-2]}", *already]
    assert main(arguments) == 130
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    start, _, command = line.partition("continue with: ")
    assert start == "interrupted; nothing is lost, "
    # As typed into a shell again: the same arguments, and --resume once.
    resume = [] if already else ["--resume"]
    assert shlex.split(command) == [PYTHON, "run_search.py", *arguments, *resume]


def test_the_line_is_made_of_sys_argv_too(
    file: str,
    calls: Calls,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls.error = KeyboardInterrupt()
    monkeypatch.setattr(sys, "argv", ["run_search.py", file])
    assert main() == 130
    assert capsys.readouterr().err.endswith(f"python run_search.py {file} --resume\n")


@pytest.mark.parametrize(
    ("end", "told"), [("os._exit(1)", True), ("os.kill(os.getpid(), 9)", True), ("pass", False)]
)
def test_a_process_that_is_ended_from_below_says_how_to_continue(end: str, told: bool) -> None:
    code = (
        "import os\nfrom commands.resuming import told_if_killed\n"
        f"with told_if_killed(['a b'], 'auto'): {end}"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=PROGRAM.parent, capture_output=True, text=True
    )
    assert run.stdout == ""
    lines = run.stderr.splitlines()
    assert len(lines) == told
    if told:
        assert lines[0].startswith("error: this process or Ray was killed")
        assert lines[0].endswith("run_search.py 'a b' --resume")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_run_is_an_interruption(
    number: int, file: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*_: Any) -> None:
        os.kill(os.getpid(), number)
        signal.sigtimedwait([], 0)  # lets the handler run
        raise AssertionError("the signal had no effect")

    monkeypatch.setattr(tune.run, "run", terminated)
    assert main([file]) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interruption_is_heard_at_once(number: int, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupted() -> None:
        with interrupted_by_signals():
            os.kill(os.getpid(), number)
            signal.sigtimedwait([], 0)  # lets the handler run

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert capfd.readouterr().err == "interrupted, ending ...\n"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_of_an_interrupted_plan_there_is_nothing_to_continue() -> None:
    assert how_to_go_on(["folder:a b", "--dry-run"]) == "nothing was begun"
    assert how_to_go_on(["folder:a b"]).endswith("'folder:a b' --resume")
