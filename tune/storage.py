"""A folder on any filesystem that pyarrow knows (a disk, S3, GCS, Azure, HDFS), and a run's copy
in one.
"""

from __future__ import annotations

import io
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

import pyarrow as pa
from pyarrow.fs import FileSelector, FileSystem, FileType, LocalFileSystem
from rich.console import Console

from errors import InputError, one_line
from files import replacing
from tune.journal import events_in, holds_run

OBJECT_STORES = ("s3", "gcs", "abfs")  # show a file when it is whole, and never before
JOURNAL, CHECKPOINTS = "events.jsonl", "checkpoints"
INTERVAL = 5.0  # seconds from the end of a copy to the beginning of the next
LEFT_OUT = (CHECKPOINTS, "ray")  # written by trials, where they belong; of no use to anyone
TOLD = 2  # failed copies; one may be of a file that went while it was read
ERRORS = (OSError, pa.ArrowException)


@dataclass(frozen=True)
class Storage:
    """A folder."""

    filesystem: FileSystem
    path: str

    @classmethod
    def at(cls, place: str | Path) -> Self:
        """The folder that a path or a URL names.

        Raises:
            InputError: no filesystem takes the URL.
        """
        if "://" not in str(place):
            return cls(LocalFileSystem(), str(Path(place).absolute()))
        try:
            filesystem, path = FileSystem.from_uri(str(place))
        except ERRORS as error:
            raise InputError(f"--storage {place}: {one_line(error)}") from None
        if not path.strip("/"):
            raise InputError(f"--storage {place}: names no folder; needed is s3://BUCKET/FOLDER")
        return cls(filesystem, path.rstrip("/"))

    def __truediv__(self, name: str) -> Storage:
        return Storage(self.filesystem, f"{self.path}/{name}")

    @contextmanager
    def writing(self, name: str) -> Iterator[IO[bytes]]:
        """Yields a file to write, read and seek in; it appears whole, if the block succeeds."""
        path = f"{self.path}/{name}"
        if isinstance(self.filesystem, LocalFileSystem):
            with replacing(Path(path)) as temporary, temporary.open("w+b") as file:
                yield file
            return
        buffer = io.BytesIO()
        yield buffer
        whole = self.filesystem.type_name in OBJECT_STORES
        temporary_path = path if whole else f"{path}.{uuid.uuid4().hex}.tmp"
        if not whole:
            self.filesystem.create_dir(str(PurePosixPath(path).parent))
        with self.filesystem.open_output_stream(temporary_path) as stream:
            stream.write(buffer.getbuffer())
        if not whole:
            self.filesystem.move(temporary_path, path)

    @contextmanager
    def reading(self, name: str) -> Iterator[Any]:
        """Yields a file to read and seek in; raises FileNotFoundError where there is none."""
        with self.filesystem.open_input_file(f"{self.path}/{name}") as file:
            yield file

    def delete(self, name: str) -> None:
        """Remove a file, if it is there."""
        if self.filesystem.get_file_info(f"{self.path}/{name}").type == FileType.File:
            self.filesystem.delete_file(f"{self.path}/{name}")

    def files(self) -> list[str]:
        """Every file in the folder and below it, by its path from there."""
        selector = FileSelector(self.path, allow_not_found=True, recursive=True)
        return [
            str(PurePosixPath(info.path).relative_to(self.path))
            for info in self.filesystem.get_file_info(selector)
            if info.type == FileType.File
        ]


def place_of_copy(directory: Path, place: str) -> Storage:
    """Where a copy of a run's directory goes, in a folder of all runs given by path or URL.

    Raises:
        InputError: no filesystem takes the URL, or the place is the directory itself.
    """
    storage = Storage.at(place) / directory.name
    if isinstance(storage.filesystem, LocalFileSystem) and (
        Path(storage.path).resolve() == directory.resolve()
    ):
        raise InputError(f"--storage {place}: is --out; needed is another folder, or no --storage")
    return storage


class Mirror:
    """A storage that follows a run's directory, all but its trials' checkpoints.

    Args:
        directory: the run's.
        storage: where the copy is.
        console: is told once that copies fail.

    Raises:
        InputError: in a `with`, at its beginning: the storage cannot be written to.
    """

    def __init__(self, directory: Path, storage: Storage, console: Console) -> None:
        self._directory, self._storage, self._console = directory, storage, console
        self._copied: dict[str, tuple[int, int]] = {}  # size and time of change
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self.failure: str | None = None  # why the last copy is not up to date, if it isn't

    def fetch(self, resume: bool) -> None:
        """Bring the copy's files here, if its journal goes on from the one that is here.

        Another machine may have gone on since this one's was written. The storage is only read.

        Raises:
            InputError: here or there is a run and `resume` is off, each of both has events that
                the other lacks, or one of them cannot be read.
        """
        # The copy first: a process at work on this directory only makes what is here the longer.
        there = _run(self._copied_journal(), f"--storage: {self._storage.path}", resume)
        here = _run(self._own_journal(), str(self._directory), resume)
        if here.startswith(there):
            return
        if not there.startswith(here):
            raise InputError(
                f"--resume: {self._directory} and its copy {self._storage.path} each have events "
                "that the other lacks, as two machines went on with the run; move away the one "
                "that is not to go on"
            )
        try:
            # The journal last: with it the directory holds the run.
            for name in sorted(self._storage.files(), key=lambda name: name == JOURNAL):
                if not _belongs(name):
                    continue
                with (
                    self._storage.reading(name) as source,
                    replacing(self._directory / name) as path,
                ):
                    path.write_bytes(source.read())
        except ERRORS as error:
            raise self._unreadable(error) from None

    def _copied_journal(self) -> bytes:
        try:
            with self._storage.reading(JOURNAL) as file:
                return bytes(file.read())
        except FileNotFoundError:
            return b""
        except ERRORS as error:
            raise self._unreadable(error) from None

    def _own_journal(self) -> bytes:
        path = self._directory / JOURNAL
        try:
            return path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise InputError(f"--out: cannot read {path}: {error.strerror}") from None

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"--storage: cannot read {self._storage.path}: {one_line(error)}")

    def __enter__(self) -> Self:
        try:
            with self._storage.writing(".writable") as file:
                file.write(b"")
            self._storage.delete(".writable")
        except ERRORS as error:
            raise InputError(
                f"--storage: cannot write to {self._storage.path}: {one_line(error)}"
            ) from None
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.copy()

    def copy(self) -> None:
        """Write what has changed, remove what has gone. A failure is kept, and tried again."""
        try:
            here = {name: path for name, path in self._files().items() if _belongs(name)}
            for name in self._copied.keys() - here.keys():
                self._storage.delete(name)
                del self._copied[name]
            for name, path in here.items():
                stat = path.stat()
                state = (stat.st_size, stat.st_mtime_ns)
                if self._copied.get(name) != state:
                    with self._storage.writing(name) as target:
                        target.write(path.read_bytes())
                    self._copied[name] = state
            self.failure = None
        except ERRORS as error:
            self.failure = one_line(error)

    def _files(self) -> dict[str, Path]:
        return {
            path.relative_to(self._directory).as_posix(): path
            for path in sorted(self._directory.rglob("*"))
            if path.is_file()
        }

    def _follow(self) -> None:
        failures = 0
        while not self._done.wait(INTERVAL):
            self.copy()
            failures += bool(self.failure)
            if self.failure and failures == TOLD:
                self._console.print(
                    f"warning: --storage: copying fails and is tried again: {self.failure}",
                    highlight=False,
                )


@contextmanager
def mirrored(directory: Path, storage: Storage, resume: bool, console: Console) -> Iterator[None]:
    """Keep a copy of a run's directory, which begins as the copy where that is ahead.

    Raises:
        InputError: see `Mirror` and `Mirror.fetch`; the storage holds what it held.
    """
    mirror = Mirror(directory, storage, console)
    mirror.fetch(resume)
    try:
        with mirror:
            yield
    finally:
        if mirror.failure:
            console.print(
                f"warning: --storage: the copy is not up to date: {mirror.failure}", highlight=False
            )


def _run(journal: bytes, where: str, resume: bool) -> bytes:
    """The whole lines of a journal, if they hold a run; a copy may be cut anywhere, too."""
    whole = journal[: journal.rfind(b"\n") + 1]
    return whole if holds_run(events_in(whole, f"{where}/{JOURNAL}"), where, resume) else b""


def _belongs(name: str) -> bool:
    """Whether a file is part of the copy; locks and half-written files are not."""
    parts = PurePosixPath(name).parts
    return parts[0] not in LEFT_OUT and not any(part.startswith(".") for part in parts)
