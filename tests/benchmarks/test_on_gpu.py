"""What `make gpu` measures, on a CPU and a tiny encoder; and what it says without a GPU."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks import gpu, on_gpu
from benchmarks.on_gpu import Bench, alone, together_rows
from errors import InputError
from models import Device
from models.towers import split_tower
from tests.models.tiny_towers import native


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(on_gpu, "EXAMPLES", 64)
    return Bench(Device("cpu"), split_tower(native(layers=12)), seconds=0.01)


def test_every_row_has_its_figures(bench: Bench) -> None:
    found = dict(on_gpu.rows(bench))
    assert len(found) == 3 + 2 * len(on_gpu.TRAINED)
    for name, value in found.items():
        assert name
        assert not {"nan", "inf"} & {*value.split()}
    steps = [value for name, value in found.items() if name.endswith("its share of the peak")]
    assert len(steps) == len(on_gpu.TRAINED)
    shares = [float(value.split(", ")[-1].rstrip("%")) for value in steps]
    assert all(0 <= share <= 100 for share in shares)


def test_a_trial_alone_tells_its_steps_a_second(bench: Bench) -> None:
    assert alone(bench, at=0.0) > 1


def test_trials_side_by_side_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Says:
        def __init__(self, words: list[str], **_: object) -> None:
            assert words[words.index("--device") + 1] == "cuda"

        def communicate(self) -> tuple[str, None]:
            return "2.5\n", None

    monkeypatch.setattr(subprocess, "Popen", Says)
    values = [value for _, value in together_rows("cuda", (1, 4))]
    assert values == ["160", "640"]


def test_without_a_gpu_one_line_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"^make gpu: torch sees no GPU on this machine"):
        gpu.check()


def test_every_stage_runs_though_one_fails(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    stages = [
        ("tests", ["-c", "raise SystemExit(1)"], {}),
        ("benchmarks", ["-c", "import os; print(os.environ['ROWS'])"], {"ROWS": "| a | 1 |"}),
    ]
    monkeypatch.setattr(gpu, "check", lambda: "A card")
    monkeypatch.setattr(gpu, "stages", lambda folder: stages)
    assert gpu.run() == 1
    lines = capfd.readouterr().out.split("\n")
    assert lines[1:3] == ["| A card | |", "|---|---|"]
    assert lines[3].startswith("| tests | failed (exit code 1), ")
    assert lines[4].startswith("| benchmarks | passed, ")
    assert lines[5] == "| a | 1 |"
