"""Code of the user's own is run only where `--import` names it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import run_search
from data.sources import SOURCES
from tests.command_line.conftest import Calls
from tests.data.sources.toy import TOY

REGISTERING = f"{TOY}\n\nfrom data.sources import SOURCES\n\nSOURCES['shapes'] = Shapes()\n"


SOURCE = "from data.sources import SOURCES; SOURCES['own']"


@pytest.fixture
def shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that adds the source `shapes:COUNT`, in the current directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("data.sources.SOURCES", SOURCES)
    monkeypatch.setitem(SOURCES, "shapes", None)
    monkeypatch.delitem(SOURCES, "shapes")  # as it is afterwards too
    monkeypatch.setitem(sys.modules, "own_shapes", sys)
    (tmp_path / "shapes.py").write_text(REGISTERING)
    return tmp_path / "shapes.py"


def test_a_source_of_ones_own_is_searched(shapes: Path, calls: Calls) -> None:
    words = ["shapes:400", "--import", "shapes.py", "--methods", "frozen"]
    assert run_search.main(words) == 0
    assert calls.experiment
    assert calls.experiment.data.source == "shapes:400"


def test_without_the_option_nothing_is_imported(
    shapes: Path, calls: Calls, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_search.main(["--set", "data.source=shapes:40"]) == 2
    assert "unknown source 'shapes:40'; allowed: digits" in capsys.readouterr().err
    assert "shapes" not in SOURCES


def test_a_module_is_found_by_its_dotted_name(
    shapes: Path, calls: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = shapes.parent / "lab"
    folder.mkdir()
    shapes.rename(folder / "images.py")
    monkeypatch.syspath_prepend(shapes.parent)
    assert run_search.main(["--import", "lab.images", "shapes:400"]) == 0


def test_a_file_finds_the_modules_beside_it(shapes: Path, calls: Calls) -> None:
    lab = shapes.parent / "lab"
    lab.mkdir()
    shapes.rename(lab / "beside.py")
    (lab / "shapes.py").write_text("import beside")
    assert run_search.main(["shapes:400", "--import", "lab/shapes.py"]) == 0


@pytest.mark.parametrize(
    ("code", "content", "reason"),
    [
        ("missing.py", "", "no such file"),
        ("no.such.module", "", "ModuleNotFoundError: No module named 'no'"),
        ("./own", "", "allowed: FILE.py, or a module's dotted name"),
        ("own.py", "1 / 0", "ZeroDivisionError: division by zero"),
        ("own.py", "def", "SyntaxError: invalid syntax (own.py, line 1)"),
        ("own.py", "raise SystemExit(0)", "SystemExit: 0"),
        ("own.py", f"{SOURCE} = 42", "SOURCES['own'] is 42; allowed: an instance of a SourceKind"),
    ],
)
def test_code_that_fails_is_one_line(
    code: str,
    content: str,
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SOURCES, "own", SOURCES["digits"])  # as it is not afterwards
    if content:
        (tmp_path / code).write_text(content)
    for command in ([], ["evaluate", "results/digits"], ["predict", "results/digits", "a.jpg"]):
        assert run_search.main([*command, "--import", code]) == 2
        assert capsys.readouterr().err == f"error: --import {code}: {reason}\n"
