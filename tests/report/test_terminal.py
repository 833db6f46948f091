"""Output in any encoding, in narrow terminals, and to places that take no more."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.report.run_writer import RunWriter

ROOT = Path(__file__).resolve().parents[2]


def report(run_dir: Path, shell: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command `report` within a line of the shell, as $REPORT."""
    return subprocess.run(
        ["bash", "-c", shell],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", "REPORT": f"{sys.executable} run_search.py report {run_dir}"}
        | environment,
        check=False,
    )


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
)
def test_the_table_is_shown_in_other_encodings(
    finished: RunWriter, environment: dict[str, str]
) -> None:
    run = report(finished.run_dir, "$REPORT | cat -v", COLUMNS="100", **environment)
    why = "no trial was made; --resume makes them, given the time"
    assert run.stderr == f"error: There is no result for 10/seed_llrd: {why}\n"
    assert run.stdout.isascii()
    if "latin-1" not in environment.values():
        assert "76.0 +- 2.5" in run.stdout
        lines = run.stdout.splitlines()
        title = next(place for place, line in enumerate(lines) if line.startswith("digits: "))
        header, rule = lines[title + 1], lines[title + 3]
        assert len(header.rstrip()) <= len(rule)


def test_a_full_device_is_one_line_and_exit_code_2(finished: RunWriter) -> None:
    run = report(finished.run_dir, "$REPORT > /dev/full")
    assert run.returncode == 2
    assert run.stderr == ("error: standard output cannot be written to: No space left on device\n")


def test_a_closed_pipe_is_one_line(finished: RunWriter) -> None:
    run = report(finished.run_dir, "$REPORT | true; exit ${PIPESTATUS[0]}")
    assert run.returncode == 1
    assert run.stderr == "error: standard output cannot be written to: Broken pipe\n"


@pytest.mark.parametrize("where", ["> /dev/full", "2> /dev/full"])
def test_so_are_help_and_a_mistake(where: str, tmp_path: Path) -> None:
    command = f"{sys.executable} run_search.py"
    run = report(tmp_path, f"{command} --help {where}")
    assert run.returncode == (0 if where.startswith("2") else 2)
    assert len(run.stderr.splitlines()) == (0 if where.startswith("2") else 1)
    run = report(tmp_path, f"{command} --nonsense {where}")
    assert run.returncode == 2
    assert run.stdout == ""


def test_a_place_that_cannot_be_read_is_one_line(finished: RunWriter) -> None:
    (finished.run_dir / "test_images.csv").mkdir()
    run = report(finished.run_dir, "$REPORT")
    assert run.returncode == 2
    assert run.stderr == f"error: {finished.run_dir}/test_images.csv: Is a directory\n"
    run = report(Path("x" * 300), "$REPORT")
    assert run.returncode == 2
    assert run.stderr.endswith(": File name too long\n")
