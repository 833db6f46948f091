"""The command line: exit codes, and one line on stderr where something is wrong."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

import run_search
import tune.run
from errors import InputError
from run_search import main, parse
from search_spaces import Experiment
from tune.run import Options

METHODS = {"frozen": {"space": {"blocks": "none"}}, "llrd": {"space": {"blocks": "11-7"}}}
PYTHON = os.path.relpath(sys.executable)
SPACE = {"data": {"source": "digits"}, "methods": METHODS}


class Calls:
    """What the command line asked for, in place of a run."""

    def __init__(self) -> None:
        self.experiment: Experiment | None = None
        self.options: Options | None = None
        self.dry = False
        self.error: BaseException | None = None

    def run(self, experiment: Experiment, options: Options, console: Any) -> Calls:
        self.experiment, self.options = experiment, options
        if self.error:
            raise self.error
        return self

    def dry_run(self, experiment: Experiment, options: Options, console: Any) -> None:
        self.run(experiment, options, console)
        self.dry = True

    def render(self, console: Any) -> None:
        console.print("the table")


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[Calls]:
    calls = Calls()
    monkeypatch.setattr(tune.run, "run", calls.run)
    monkeypatch.setattr(tune.run, "dry_run", calls.dry_run)
    handler = signal.getsignal(signal.SIGTERM)
    yield calls
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SPACE))
    return str(path)


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


def test_help_is_short_and_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--help"])
    assert exit.value.code == 0
    text = capsys.readouterr().out
    options = "set partitions methods trials seed name out resume time-budget address dry-run"
    for option in options.split():
        assert f"--{option}" in text
    assert "python run_search.py" in text


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


# What is wrong

BAD = [
    (["--nonsense"], "unrecognized arguments: --nonsense"),
    (["{file}", "--non\nsense"], "unrecognized arguments: --non sense"),
    (["{file}", "another.yaml"], "unrecognized arguments: another.yaml"),
    (["{file}", "--seed"], "argument --seed: expected one argument"),
    (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
    (["--seed", "-1"], "--seed: Input should be greater than or equal to 0, got -1"),
    (["--trials", "many"], "argument --trials: invalid int value: 'many'"),
    (["--trials", "0"], "--trials: Input should be greater than or equal to 1, got 0"),
    (["--partitions", "ten"], "argument --partitions: 'ten': expected numbers, as in 1,10,100"),
    (["--partitions", ""], "argument --partitions: '': expected numbers, as in 1,10,100"),
    (["--partitions", "1,,2"], "argument --partitions: '1,,2': expected numbers"),
    (["--partitions", "0,10"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "10,1"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "101"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "nan"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "inf"], "--partitions: partitions must be one or more increasing"),
    (["--time-budget", "soon"], "'soon': expected a time, as in 90s, 30m or 2h"),
    (["--time-budget", "0"], "'0': expected a time, as in 90s, 30m or 2h"),
    (["--time-budget", "2 weeks"], "'2 weeks': expected a time"),
    (["--time-budget", "nan"], "'nan': expected a time"),
    (["--time-budget=-1h"], "'-1h': expected a time"),
    (["--methods", ""], "argument --methods: '': expected names, as in frozen,llrd"),
    (["--methods", "lrd"], "did you mean 'llrd'? allowed: frozen, llrd"),
    (["--name", "a/b"], "--name: String should match pattern"),
    (["--name", ""], "--name: String should match pattern"),
    (["--set", "seed"], "--set 'seed': expected key.path=value"),
    (["--set", "sead=1"], "--set sead: unknown key; did you mean 'seed'? allowed: name, seed"),
    (["--set", "seed=[1"], "--set seed: line 1, column 3: not YAML"),
    (["--set", "data.source=a:smile:"], "data.source: Input should be a valid string"),
    (["--set", "data.source='a:smile:'"], "data.source: unknown source 'a:smile:'; allowed"),
    (["--set", "name=[bold]x[/bold]"], "name: "),
    (["--set", "methods.llrd.space.lr=0"], "methods.llrd: lr: 0: Input should be greater than 0"),
    (["--set", "a\nb=1"], "--set a b: unknown key"),
]


def check_refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    file: str,
    arguments: list[str],
    message: str,
    calls: Calls,
    capsys: pytest.CaptureFixture[str],
) -> None:
    placed = [argument.replace("{file}", file) for argument in arguments]
    check_refused([*placed, *([] if file in placed else [file])], message, capsys)
    assert calls.experiment is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read ([Errno 2] No such file or directory"),
        (b"", "expected keys and values"),
        (b"a: [", "line 1, column 5: not YAML"),
        (b"\xff\xfe", "cannot be read ('utf-8' codec"),
        (b"data: {source: digits}", "methods: Field required"),
        (b"a: 2001-13-01", "not YAML: a value cannot be read"),
        (b"data: {source: digits}\nmethods: {llrd: {space: {blocks: 11}}}", "starts from a probe"),
    ],
)
def test_a_bad_file_is_one_line_and_exit_code_2(
    tmp_path: Path, content: bytes | None, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.yaml"
    if content is not None:
        path.write_bytes(content)
    check_refused([str(path)], message, capsys)


def test_a_bad_file_is_refused_before_slow_imports(file: str) -> None:
    code = (
        "import sys; from run_search import main; code = main(sys.argv[1:]); "
        "print(code, *sorted({'ray', 'torch', 'torchvision', 'open_clip'} & {*sys.modules}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, file, "--set", "seed=-1"],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout == "2\n"
    assert run.stderr.startswith("error: --set seed: ")


@pytest.mark.parametrize("option", ["--dry-run", "--resume"])
def test_what_a_run_refuses_is_one_line_too(
    file: str, option: str, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    long = "x" * 500 + " [red]:smile:[/red]"
    calls.error = InputError(f"data.source: {long} is not a folder")
    check_refused([file, option], f"data.source: {long} is not a folder", capsys)


def test_a_fault_of_ours_is_not_taken_for_the_users(file: str, calls: Calls) -> None:
    calls.error = ValueError("a bug")
    with pytest.raises(ValueError, match="a bug"):
        main([file])


# Evaluation


@pytest.mark.parametrize(
    ("arguments", "result", "code", "words"),
    [
        (["evaluate", "DIR"], True, 0, ""),
        (["evaluate", "DIR"], False, 1, ""),
        (["evaluate", "DIR", "--address", "auto"], True, 0, ""),
        (["evaluate", "DIR"], InputError("DIR: has no final\nfits"), 2, "DIR: has no final fits"),
        (["evaluate"], True, 2, "the following arguments are required: RESULTS_DIR"),
        (["evaluate", "DIR", "--resume"], True, 2, "unrecognized arguments: --resume"),
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
    monkeypatch.setattr(run_search.sys, "argv", ["run_search.py", file])
    assert main() == 130
    assert capsys.readouterr().err.endswith(f"python run_search.py {file} --resume\n")


def test_sigterm_is_an_interruption(
    file: str, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    def terminated(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        signal.sigtimedwait([], 0)  # lets the handler run
        raise AssertionError("the signal had no effect")

    monkeypatch.setattr(tune.run, "run", terminated)
    assert main([file]) == 130
