"""What is wrong on the command line is one line on stderr, and exit code 2."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from commands.search import parse
from errors import InputError
from records import Cell, TrialStarted
from records.journal import journal_line
from run_search import main
from tests.command_line.conftest import Calls

ROOT = Path(__file__).resolve().parents[2]


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
    (["--seed", "x"], "argument --seed: 'x': expected a whole number"),
    (["--seed", "-1"], "--seed: -1 is too small. Allowed: 0 or more"),
    (["--trials", "many"], "argument --trials: 'many': expected a whole number"),
    (["--trials", "0"], "--trials: 0 is too small. Allowed: 1 or more"),
    (["--partitions", "ten"], "argument --partitions: 'ten': expected numbers, as in 1,10,100"),
    (["--partitions", ""], "argument --partitions: '': expected numbers, as in 1,10,100"),
    (["--partitions", "1,,2"], "argument --partitions: '1,,2': expected numbers"),
    (["--partitions", "0,10"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "10,1"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "101"], "--partitions: partitions must be one or more increasing"),
    (["--partitions", "nan"], "--partitions: "),
    (["--partitions", "inf"], "--partitions: "),
    (["--time-budget", "soon"], "'soon': expected a time, as in 90s, 30m or 1h30m"),
    (["--time-budget", "0"], "'0': expected a time, as in 90s, 30m or 1h30m"),
    (["--time-budget", "2 weeks"], "'2 weeks': expected a time"),
    (["--time-budget", "nan"], "'nan': expected a time"),
    (["--storage", ""], "argument --storage: it is empty; expected a path or URL"),
    (["--out", ""], "argument --out: it is empty; expected a path"),
    (["--shots", "4,1"], "--shots: shots must be increasing numbers of images of each class"),
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
    "option",
    [
        "--storage=s3://AKIA:sEcR/et@bucket/folder?nonsense=1",
        "--storage=abfs://:sEcR/et@account/folder",
        "--storage=abfs://folder@account/?client_id=me&client_secret=sEcR/et",
        "--storge=s3://AKIA:sEcR/et@bucket/folder",
    ],
)
def test_keys_in_a_url_are_refused_and_never_shown(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([option]) == 2
    said = capsys.readouterr().err
    assert "sEcR" not in said
    assert "et@" not in said.replace("***@", "")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize("url", ["s3://bucket/folder", "hdfs://me@host:8020/folder", "/a:b@c/d"])
def test_urls_without_keys_are_taken(url: str) -> None:
    assert parse(["--storage", url]).storage == url


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "expected keys and values"),
        (b"a: [", "line 1, column 5: not YAML"),
        (b"\xff\xfe", "cannot be read (it is not UTF-8 text)"),
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
        (["evaluate", "OUT/no"], "OUT/no: no such folder", False),
        (["evaluate", "/tmp"], "/tmp holds no run", False),
        (["export", "OUT/no", "--out=OUT/new"], "OUT/no: no such folder", False),
        (["predict", "OUT/no", "FILE"], "OUT/no: no such file or folder", True),
        (["predict", "/tmp", "FILE"], "/tmp holds no run", False),
        (["FILE", "--out", "OUT"], "OUT/small already holds a run; --resume", False),
        (["FILE", "--out", "/proc/x"], "--out: cannot write to /proc: ", False),
        (["FILE", "--dry-run", "--out", "/dev/null"], "--out: /dev/null is not a folder", False),
        (
            ["FILE", "--dry-run", "--storage", "OUT/small/events.jsonl"],
            "--storage: OUT/small/",
            False,
        ),
        (["FILE", "--dry-run", "--storage", "foo://x"], "--storage foo://x: unknown scheme", False),
        (
            ["FILE", "--dry-run", "--address", "foo"],
            "argument --address: 'foo': expected auto",
            True,
        ),
        (["FILE", "--dry-run", "--address", "a:99999"], "argument --address: 'a:99999': exp", True),
        (
            ["FILE", "--dry-run", "--set=data.source=folder:/no"],
            "data.source: no folder /no",
            False,
        ),
        (
            ["FILE", "--dry-run", "--set=data.source=folder:FILE"],
            "data.source: FILE is a file; folder: needs a folder of class folders",
            False,
        ),
        (["FILE", "--dry-run", "--set=data.source=csv:/no.csv"], "data.source: cannot read", False),
        (
            ["FILE", "--dry-run", "--set=model.name=local-dir:/no"],
            "model.name: /no does not exist",
            False,
        ),
        (["FILE", "--dry-run", "--model=hf-hub:no"], "model.name: 'hf-hub:no'; allowed", False),
        (["FILE", "--dry-run", "--model=timm:"], "model.name: timm: names no model", False),
        (["FILE", "--dry-run", "--model=RN50:b.pt"], "model.pretrained: b.pt is no file", False),
        (["FILE", "--dry-run", "--model=RN51:openai"], "model.name: unknown model 'RN51'", False),
        (["FILE", "--dry-run", "--set=model.name=a:b"], "model.name: 'a:b': of no known", False),
        (
            ["FILE", "--dry-run", "--model=RN50:openai", "--model=RN50:b.pt"],
            "models.RN50-b.pretrained: b.pt is no file",
            False,
        ),
    ],
)
def test_a_mistake_is_refused_before_slow_imports(
    arguments: list[str], said: str, light: bool, file: str, tmp_path: Path
) -> None:
    held = tmp_path / "small"
    held.mkdir()
    started = TrialStarted(Cell(10, "frozen"), 0, "default", {}, None)
    (held / "events.jsonl").write_text(journal_line(started))
    names = {"FILE": file, "OUT": str(tmp_path)}
    given = [re.sub("FILE|OUT", lambda word: names[word[0]], each) for each in arguments]
    code = (
        "import sys; from run_search import main; code = main(sys.argv[1:]); "
        "slow = {'ray', 'torch', 'torchvision', 'open_clip', 'pandas', 'scipy', 'matplotlib'}; "
        "print(code, *sorted(slow & {*sys.modules}), 'optuna' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert run.stdout == f"2 {not light}\n"
    assert run.stderr.startswith(
        f"error: {said.replace('OUT', str(tmp_path)).replace('FILE', file)}"
    )


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


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_change_no_exit_code(closed: str) -> None:
    """As under some daemons."""
    command = f"{sys.executable} run_search.py --seed -1 {closed}"
    run = subprocess.run(["/bin/sh", "-c", command], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    assert run.stderr == "" if "2>&-" in closed else run.stderr.startswith("error: --seed: -1")
