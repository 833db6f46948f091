"""Runs' directories and their copies."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from records import Cell, RunStarted, TrialStarted, journal_line
from tune.storage.mirror import Mirror
from tune.storage.storage import Storage


def put(folder: Storage, name: str, content: bytes) -> None:
    with folder.writing(name) as file:
        file.write(content)


def content_of(folder: Storage, name: str) -> bytes:
    with folder.reading(name) as file:
        return bytes(file.read())


def journal(*trials: int) -> str:
    """Of a run with these trials; without any it is none yet."""
    started = [TrialStarted(Cell(1, "llrd"), number, "sampler", {}, None) for number in trials]
    return "".join(map(journal_line, [RunStarted(False, 0), *started]))


def run_in(path: Path, events: str = journal(0)) -> Path:
    """A run's directory, with what belongs into a copy and what doesn't."""
    for name in ("events.jsonl", "final_fits/a.json", "checkpoints/1.pt", "ray/x", ".lock",
                 "final_fits/.a.json.7.tmp"):  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(events if name == "events.jsonl" else name)
    return path


def mirror_of(here: Path, there: Storage) -> Mirror:
    return Mirror(here, there, Console(quiet=True))


def all_of(folder: Storage) -> dict[str, bytes]:
    return {name: content_of(folder, name) for name in folder.files()}


def files_in(path: Path) -> set[str]:
    return {below.relative_to(path).as_posix() for below in path.rglob("*") if below.is_file()}
