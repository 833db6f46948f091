"""Which files of a run its copy lacks, and in what order they are written there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pyarrow.fs import FileInfo

from records import CHECKPOINTS, JOURNAL
from tune.storage.storage import Storage

SMALL = (".jsonl", ".csv", ".json", ".yaml", ".md")  # what a run decided and found
WEIGHTS = ".safetensors"
LEFT_OUT = (CHECKPOINTS, "ray")  # trials write theirs to the storage themselves; Tune's is scratch

State = tuple[int, int]  # a file's size and time of change
UNKNOWN: State = (-1, -1)  # of a file in the storage that may differ from the run's
Step = dict[str, State | None]
"""What a copy now holds, by name; None where it no longer holds the file."""


@dataclass
class Copier:
    """Brings a run's copy up to date with the run's directory.

    Attributes:
        copied: the state of each file when it was copied.
        compared: whether `copied` says all that the storage holds.
    """

    directory: Path
    storage: Storage
    copied: dict[str, State] = field(default_factory=dict)
    compared: bool = False

    def copy(self) -> Iterator[Step]:
        """Delete what has gone, then write what has changed; yields after each file.

        Weights that have changed are deleted before any result is written. So no result ever lies
        beside weights of another fit, wherever the copy is interrupted.
        """
        here = files_of(self.directory)
        if not here:
            return
        if not self.compared:
            yield self.note(self._found(here))
        for name, state in list(self.copied.items()):
            if name not in here or (name.endswith(WEIGHTS) and state != here[name]):
                self.storage.delete(name)
                yield self.note({name: None})
        for name in self.lacking(here):
            path = self.directory / name
            state = state_of(path)
            with self.storage.writing(name) as target:
                target.write(path.read_bytes())
            yield self.note({name: state})

    def note(self, step: Step) -> Step:
        """Remember what the copy now holds; the first step says all of it."""
        for name, state in step.items():
            if state is None:
                self.copied.pop(name, None)
            else:
                self.copied[name] = state
        self.compared = True
        return step

    def lacking(self, here: Mapping[str, State]) -> list[str]:
        """Name the files to write, in order: the journal, other small files, large ones.

        The journal says how far the run had come when the copy was made.
        """
        names = [name for name, state in here.items() if self.copied.get(name) != state]
        return sorted(names, key=lambda name: (name != JOURNAL, not name.endswith(SMALL), name))

    def _found(self, here: Mapping[str, State]) -> Step:
        """Say what an earlier run of this mirror left in the storage."""
        return {
            name: here[name] if name in here and _is_copy(name, info, here[name]) else UNKNOWN
            for name, info in self.storage.listing().items()
            if belongs(name) and name not in self.copied
        }


def files_of(directory: Path) -> dict[str, State]:
    """List the files to copy, by their paths from a run's directory.

    Without a journal there are none: the directory is not known to hold a run, or its disk has
    gone.
    """
    paths = {
        path.relative_to(directory).as_posix(): path
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }
    if JOURNAL not in paths:
        return {}
    return {name: state_of(path) for name, path in paths.items() if belongs(name)}


def belongs(name: str) -> bool:
    """Whether a file is part of the copy; locks and half-written files are not."""
    parts = PurePosixPath(name).parts
    return parts[0] not in LEFT_OUT and not any(part.startswith(".") for part in parts)


def state_of(path: Path) -> State:
    """Return a file's size and time of change."""
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _is_copy(name: str, there: FileInfo, here: State) -> bool:
    """Whether a large file is known to be as it is here; files are only ever replaced whole."""
    size, changed = here
    same_size = not name.endswith(SMALL) and there.size == size
    return same_size and there.mtime_ns is not None and changed <= there.mtime_ns
