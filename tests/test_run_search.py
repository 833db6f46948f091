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
import yaml

import run_search
import tune.run
from errors import InputError
from records import Cell, TrialStarted
from records.journal import journal_line
from run_search import main, parse
from search_spaces import Experiment
from tune.run import Options

METHODS = {"frozen": {"space": {"blocks": "none"}}, "llrd": {"space": {"blocks": "11-7"}}}
ROOT = Path(__file__).resolve().parents[1]
PYTHON = os.path.relpath(sys.executable)
SPACE = {"data": {"source": "digits"}, "methods": METHODS}


class Calls:
    """What the command line asked for, in place of a run."""

    def __init__(self) -> None:
        self.experiment: Experiment | None = None
        self.options: Options | None = None
        self.dry = False
        self.error: BaseException | None = None
        self.lines: list[str] = []  # of cells without a result

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

    @property
    def missing(self) -> list[str]:
        return self.lines


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
    assert "python -m report" in text
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
    assert set(leaves(known)) - set(defaults) == {"data.extra_tests"}


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


# What is wrong

BAD = [
    (["--trails", "3"], "--trails: unknown option; did you mean '--trials'? --help lists all"),
    (["{file}", "--sed=3"], "--sed: unknown option; did you mean '--seed'? --help lists all"),
    (["evalute", "results/x"], "one argument too many; did you mean 'evaluate'? --help"),
    (["--set", "a..b=1"], "--set 'a..b=1': expected key.path=value"),
    (["--set", "a.b=1"], "--set a.b: unknown key; allowed: name, seed"),
    (["--set", "a\x1b[31mb=1"], "--set a\\x1b[31mb: unknown key; allowed: name, seed"),
    (
        ["--set", f"search.trials=0x{'f' * 6000}"],
        "--set search.trials: line 1, column 1: an integer of more than 20 digits",
    ),
    (["--time-budget", "1h30"], "'1h30': expected a time, as in 90s, 30m or 1h30m"),
    (["--time-budget", "30m1h"], "'30m1h': expected a time"),
    (["--nonsense"], "--nonsense: unknown option; --help lists all"),
    (["{file}", "--non\nsense"], "--non sense: unknown option"),
    (["{file}", "another.yaml"], "'another.yaml': one argument too many; --help lists all"),
    (["{file}", "--seed"], "argument --seed: expected one argument"),
    (["--seed", "x"], "argument --seed: invalid int value: 'x'"),
    (["--seed", "-1"], "--seed: -1 is too small. Allowed: 0 or more"),
    (["--trials", "many"], "argument --trials: invalid int value: 'many'"),
    (["--trials", "0"], "--trials: 0 is too small. Allowed: 1 or more"),
    (["--partitions", "ten"], "argument --partitions: 'ten': expected numbers, as in 1,10,100"),
    (["--partitions", ""], "argument --partitions: '': expected numbers, as in 1,10,100"),
    (["--partitions", "1,,2"], "argument --partitions: '1,,2': expected numbers"),
    (["--partitions", "0,10"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "10,1"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "101"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "nan"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "inf"], "--partitions: partitions must be one or more increasing"),
    (["--time-budget", "soon"], "'soon': expected a time, as in 90s, 30m or 1h30m"),
    (["--time-budget", "0"], "'0': expected a time, as in 90s, 30m or 1h30m"),
    (["--time-budget", "2 weeks"], "'2 weeks': expected a time"),
    (["--time-budget", "nan"], "'nan': expected a time"),
    (["--time-budget=-1h"], "'-1h': expected a time"),
    (["--methods", ""], "argument --methods: '': expected names, as in frozen,llrd"),
    (["--methods", "lrd"], "did you mean 'llrd'? allowed: frozen, llrd"),
    (["--name", "a/b"], "--name: 'a/b' is no name of a run. Allowed: letters, digits"),
    (["--name", ""], "--name: '' is no name of a run. Allowed: letters"),
    (["--set", "seed"], "--set 'seed': expected key.path=value"),
    (["--set", "sead=1"], "--set sead: unknown key; did you mean 'seed'? allowed: name, seed"),
    (["--set", "seed=[1"], "--set seed: line 1, column 3: not YAML"),
    (
        ["--set", "data.source=a:smile:"],
        "--set data.source: {'a:smile': None} is no text. Allowed: text;",
    ),
    (["--set", "data.source='a:smile:'"], "data.source: unknown source 'a:smile:'; allowed"),
    (["--set", "name=[bold]x[/bold]"], "name: "),
    (
        ["--set", "methods.llrd.space.lr=0"],
        "--set methods.llrd.space.lr: 0 is too small. Allowed: above 0",
    ),
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
        (b"data: {source: digits}", "methods: this key is missing"),
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


@pytest.mark.parametrize(
    ("arguments", "said", "light"),
    [
        (["--trails", "3"], "--trails: unknown option", True),
        (["FILE", "--set", "seed=-1"], "--set seed: ", False),
        (["evaluate", "/nonexistent"], "/nonexistent: not a run's directory", False),
        (["FILE", "--out", "OUT"], "OUT/small already holds a run; --resume", False),
    ],
)
def test_a_mistake_is_refused_before_slow_imports(
    arguments: list[str], said: str, light: bool, file: str, tmp_path: Path
) -> None:
    held = tmp_path / "small"
    held.mkdir()
    started = TrialStarted(Cell(10, "frozen"), 0, "default", {}, None)
    (held / "events.jsonl").write_text(journal_line(started))
    given = [{"FILE": file, "OUT": str(tmp_path)}.get(word, word) for word in arguments]
    code = (
        "import sys; from run_search import main; code = main(sys.argv[1:]); "
        "slow = {'ray', 'torch', 'torchvision', 'open_clip', 'pandas', 'scipy', 'matplotlib'}; "
        "print(code, *sorted(slow & {*sys.modules}), 'optuna' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == f"2 {not light}\n"
    assert run.stderr.startswith(f"error: {said.replace('OUT', str(tmp_path))}")


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
