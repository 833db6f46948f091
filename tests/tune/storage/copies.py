"""Runs' directories and their copies."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pyarrow.fs import S3FileSystem
from rich.console import Console

from records import Cell, RunStarted, TrialStarted
from records.journal import journal_line
from tune.storage.copier import Copier
from tune.storage.storage import Storage

WEIGHTS, OTHERS = "winners/a.safetensors", "winners/b.safetensors"
SMALL = ["events.jsonl", "best_configs.yaml", "final_fits/a.json", "trials.csv"]


def put(folder: Storage, name: str, content: bytes) -> None:
    with folder.writing(name) as file:
        file.write(content)


def content_of(folder: Storage, name: str) -> bytes:
    with folder.reading(name) as file:
        return bytes(file.read())


def journal(*trials: int) -> str:
    """Of a run with these trials; without any it is none yet."""
    started = [TrialStarted(Cell(1, "llrd"), number, "sampler", {}, None) for number in trials]
    return "".join(map(journal_line, [RunStarted(False, 0, {}, {}), *started]))


def run_in(path: Path, events: str = journal(0)) -> Path:
    """A run's directory, with what belongs into a copy and what doesn't."""
    for name in ("events.jsonl", "final_fits/a.json", "checkpoints/1.pt", "ray/x", ".lock",
                 "final_fits/.a.json.7.tmp"):  # fmt: skip
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_text(events if name == "events.jsonl" else name)
    return path


def whole_run_in(path: Path) -> Path:
    """A run's directory with small files and large ones."""
    for name in (*SMALL[1:], WEIGHTS, OTHERS, "optuna.journal"):
        (run_in(path) / name).parent.mkdir(exist_ok=True)
        (path / name).write_text(name)
        os.utime(path / name, (1, 1))
    return path


def copy(here: Path, there: Storage) -> Copier:
    """Make one copy, as a mirror that has just started."""
    copier = Copier(here, there)
    go_on(copier)
    return copier


def go_on(copier: Copier) -> None:
    """Make another copy."""
    for _ in copier.copy():
        pass


def all_of(folder: Storage) -> dict[str, bytes]:
    return {name: content_of(folder, name) for name in folder.listing()}


def files_in(path: Path) -> set[str]:
    return {below.relative_to(path).as_posix() for below in path.rglob("*") if below.is_file()}


def quiet() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


@dataclass(frozen=True)
class Gated(Storage):
    """A folder that any process may watch: `notes` has what was written, in order.

    While its gate is closed, `WEIGHTS` are not written.
    """

    folder: Path

    @classmethod
    def of(cls, storage: Storage, folder: Path) -> Gated:
        (folder / "notes").touch()
        return cls(storage.filesystem, storage.path, folder)

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        if name == WEIGHTS:
            (self.folder / "reached").touch()
            while (self.folder / "closed").exists():
                time.sleep(0.01)
        with super().writing(name) as file:
            yield file
        if name != ".writable":
            with (self.folder / "notes").open("a") as notes:
                notes.write(f"{name}\n")

    @property
    def written(self) -> list[str]:
        return (self.folder / "notes").read_text().split()

    def forget(self) -> None:
        (self.folder / "notes").write_text("")

    def close(self) -> None:
        (self.folder / "closed").touch()

    def open(self) -> None:
        (self.folder / "closed").unlink()

    def wait(self) -> None:
        """Until the gate has been reached."""
        wait_for(self.folder / "reached")


@dataclass(frozen=True)
class Failing(Storage):
    """A folder that takes nothing while there is a file named `away`; notes each attempt."""

    folder: Path

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        if name != ".writable" and (self.folder / "away").exists():
            with (self.folder / "attempts").open("a") as attempts:
                attempts.write("x")
            raise UnicodeError("a name that no store takes")
        with super().writing(name) as file:
            yield file


@dataclass(frozen=True)
class Stuck(Storage):
    """A folder to which weights are uploaded by a request that nobody ever answers."""

    endpoint: str

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        if name == WEIGHTS:
            where = {"endpoint_override": self.endpoint, "scheme": "http", "region": "us-east-1"}
            S3FileSystem(access_key="a", secret_key="b", **where).get_file_info(["runs/small"])
        with super().writing(name) as file:
            yield file


def wait_for(path: Path, size: int = 0) -> None:
    """Until a file is there, with more than so many bytes where `size` is given."""
    deadline = time.monotonic() + 30
    while not path.exists() or path.stat().st_size < size:
        assert time.monotonic() < deadline
        time.sleep(0.01)
