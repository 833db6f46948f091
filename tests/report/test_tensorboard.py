from __future__ import annotations

import builtins
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from errors import InputError
from records import Cell, TrialReported
from report.tensorboard import main, write_curves
from tests.report.run_writer import RunWriter
from tests.tune.search.simulated import a_report


def scalars(folder: Path) -> list[tuple[str, int, float]]:
    """Name, step and value of all that is written in a folder's one file."""
    from tensorboardX.proto.event_pb2 import Event

    (file,) = folder.glob("events.out.*")
    content, found, at = file.read_bytes(), [], 0
    while at < len(content):  # records: length (8), its checksum (4), content, its checksum (4)
        length = int.from_bytes(content[at : at + 8], "little")
        event = Event.FromString(content[at + 12 : at + 12 + length])
        found += [(v.tag, event.step, v.simple_value) for v in event.summary.value]
        at += length + 16
    return found


def test_every_report_becomes_points_at_samples_seen(writer: RunWriter) -> None:
    writer.trial("10/llrd", 3, [0.5, 0.75])
    writer.trial("100/llrd", 0, [0.25])
    folder = write_curves(writer.run_dir)
    assert scalars(folder / "10" / "llrd" / "3") == [
        ("val_accuracy", 100, 0.5),
        ("val_loss", 100, 0.5),
        ("train_loss", 100, 1.0),
        ("prospect", 100, 0.5),
        ("weight_distance", 100, 0.0),
        ("val_accuracy", 200, 0.75),
        ("val_loss", 200, 0.25),
        ("train_loss", 200, 1.0),
        ("prospect", 200, 0.75),
        ("weight_distance", 200, 0.0),
    ]
    assert scalars(folder / "100" / "llrd" / "0")[:2] == [
        ("val_accuracy", 100, 0.25),
        ("val_loss", 100, 0.75),
    ]


def test_a_second_call_replaces_what_the_first_wrote(writer: RunWriter) -> None:
    writer.trial("10/llrd", 3, [0.5])
    write_curves(writer.run_dir)
    writer.trial("10/llrd", 4, [0.5])
    folder = write_curves(writer.run_dir)
    assert sorted(path.name for path in (folder / "10/llrd").iterdir()) == ["3", "4"]
    assert len(scalars(folder / "10/llrd/3")) == 5


def test_nulls_and_torn_lines_are_left_out(writer: RunWriter) -> None:
    report = a_report(5, math.nan, val_loss=math.inf, train_loss=2.0)
    writer.event(TrialReported(Cell(1, "llrd"), 0, report))
    writer.flush(tail='{"event": "trial_rep')
    curve = scalars(write_curves(writer.run_dir) / "1/llrd/0")
    assert curve == [("train_loss", 5, 2.0), ("weight_distance", 5, 0.0)]
    assert not any(math.isnan(value) for _, _, value in curve)


def run_main(monkeypatch: pytest.MonkeyPatch, run_dir: Path) -> int:
    monkeypatch.setattr(sys, "argv", ["tensorboard", str(run_dir)])
    return main()


def test_mistakes_cost_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_main(monkeypatch, tmp_path) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path} holds no run: it has no events.jsonl"
    ]


def test_without_a_writer_one_line_says_what_to_install(
    writer: RunWriter, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    writer.trial("10/llrd", 3, [0.5])
    real = builtins.__import__

    def without(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "tensorboardX":
            raise ImportError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert run_main(monkeypatch, writer.run_dir) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("pip install tensorboardX")


def test_what_the_run_itself_logged_is_not_replaced(writer: RunWriter) -> None:
    writer.trial("1/llrd", 0, [0.5])
    writer.experiment(["llrd"], [1], loggers=["tensorboard"])
    (writer.run_dir / "tensorboard").mkdir()
    with pytest.raises(InputError, match="has what the run logged"):
        write_curves(writer.run_dir)
    assert (writer.run_dir / "tensorboard").is_dir()
