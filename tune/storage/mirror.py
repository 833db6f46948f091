"""A run's copy in a storage: it follows the run, which begins as the copy where that is ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Self

from pyarrow.fs import FileInfo, LocalFileSystem
from rich.console import Console

from errors import InputError, one_line
from files import replacing
from records import CHECKPOINTS, JOURNAL, holds_run, parse_journal
from tune.storage.storage import ERRORS, Storage

SMALL = (".jsonl", ".csv", ".json", ".yaml", ".md")  # what a run decided and found
WEIGHTS = ".safetensors"
INTERVAL = 5.0  # seconds from the end of a copy to the beginning of the next
LAST = 3.0  # seconds for the last copy of an interrupted run
LEFT_OUT = (CHECKPOINTS, "ray")  # written by trials, where they belong; of no use to anyone
COPYING = "copy of the run"  # the name of the threads that write it
TOLD = 2  # failed copies; one may be of a file that went while it was read
State = tuple[int, int]  # of a file here: size and time of change


def place_of_copy(directory: Path, place: str) -> Storage:
    """Where a copy of a run's directory goes, in a folder of all runs given by path or URL.

    Raises:
        InputError: no filesystem takes the URL, or one of the two folders would hold the other.
    """
    storage = Storage.at(place) / directory.name
    if not isinstance(storage.filesystem, LocalFileSystem):
        return storage
    here, there = directory.resolve(), Path(storage.path).resolve()
    if here == there:
        fault = "is --out"
    elif there.is_relative_to(here):
        fault = f"the copy would lie in the run, {directory}"
    elif here.is_relative_to(there):
        fault = f"the run would lie in its copy, {storage.path}"
    else:
        return storage
    raise InputError(f"--storage {place}: {fault}; needed is another folder, or no --storage")


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
        # What the copy holds, and the state here that it is of; None if that is not known.
        self._copied: dict[str, State | None] = {}
        self._compared = False  # with what was there before
        # No file is written by two threads at once, and small ones do not wait for a large one.
        self._small, self._large = threading.Lock(), threading.Lock()
        self._done, self._interrupted = threading.Event(), threading.Event()
        self._thread = _thread(self._follow)
        self.failure: str | None = None  # why the last copy is not up to date, if it isn't
        self.left = 0  # files that an interrupted run had no time to copy

    def fetch(self, resume: bool) -> None:
        """Make this directory what the copy is, if its journal goes on from the one that is here.

        Another machine may have gone on since this one's was written. The storage is only read.

        Raises:
            InputError: here or there is a run and `resume` is off, each of both has events that
                the other lacks, one of them cannot be read, this one cannot be written to, or the
                storage is of something else.
        """
        # The copy first: a process at work on this directory only makes what is here the longer.
        there = _run(self._copied_journal(), f"--storage: {self._storage.path}", resume)
        names = self._copied_files()
        here = _run(self._own_journal(), str(self._directory), resume)
        if here.startswith(there):
            return
        if not there.startswith(here):
            raise InputError(
                f"--resume: {self._directory} and its copy {self._storage.path} each have events "
                "that the other lacks, as two machines went on with the run; move away the one "
                "that is not to go on"
            )
        for name in sorted(names - {JOURNAL}):
            self._bring(name)
        self._discard(self._here().keys() - names)
        self._bring(JOURNAL)  # last: with it the directory holds the run

    def _copied_journal(self) -> bytes:
        try:
            return self._read(JOURNAL)
        except FileNotFoundError:
            return b""
        except ERRORS as error:
            raise self._unreadable(error) from None

    def _copied_files(self) -> set[str]:
        """The copy's, by name; raises InputError if they are no run's, as a copy removes files."""
        try:
            names = {name for name in self._storage.files() if _belongs(name)}
        except ERRORS as error:
            raise self._unreadable(error) from None
        if names and JOURNAL not in names:
            raise InputError(
                f"--storage: {self._storage.path} holds files, and no run; needed is another "
                "folder, or another --name"
            )
        return names

    def _own_journal(self) -> bytes:
        path = self._directory / JOURNAL
        try:
            return path.read_bytes() if path.exists() else b""
        except OSError as error:
            raise InputError(f"--out: cannot read {path}: {error.strerror}") from None

    def _bring(self, name: str) -> None:
        """Replace a file here by the copy's."""
        try:
            content = self._read(name)
        except ERRORS as error:
            raise self._unreadable(error) from None
        path = self._directory / name
        try:
            with replacing(path) as temporary:
                temporary.write_bytes(content)
            self._copied[name] = _state(path)
        except OSError as error:
            raise self._unwritable(error) from None

    def _discard(self, names: set[str]) -> None:
        try:
            for name in names:
                (self._directory / name).unlink(missing_ok=True)
        except OSError as error:
            raise self._unwritable(error) from None

    def _read(self, name: str) -> bytes:
        with self._storage.reading(name) as file:
            return bytes(file.read())

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"--storage: cannot read {self._storage.path}: {one_line(error)}")

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"--out: cannot write to {self._directory}: {error.strerror}")

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

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            self._hurry()
            return
        try:
            self._done.set()
            self._thread.join()  # it makes the last copy: a signal ends this wait, but no upload
        except KeyboardInterrupt:
            self._hurry()
            raise

    def _hurry(self) -> None:
        """Copy what there is time for, even while the other thread is held up by a large file."""
        deadline = time.monotonic() + LAST
        self._interrupted.set()
        self._done.set()
        last = _thread(self.copy, lambda: time.monotonic() > deadline)
        last.start()
        last.join(LAST)
        with suppress(OSError):  # of a file that goes just now
            self.left = len(self._uncopied(self._here()))

    def copy(self, over: Callable[[], bool] = bool) -> None:
        """Remove what has gone, then write what has changed, small files first, until it is `over`.

        A failure is kept, and tried again.
        """
        try:
            here = self._here()
            if not here:
                return
            with self._small:
                if over():
                    return
                self._compare(here)
                self._remove(here)
            for name in self._uncopied(here):
                with self._small if _is_small(name) else self._large:
                    if over():
                        return
                    self._write(name)
            self.failure = None
        except Exception as error:  # whatever it is: in a thread it would be lost
            self.failure = one_line(error)

    def _here(self) -> dict[str, State]:
        """The run's files, by their paths from its directory; none where it has no journal.

        What lies there then is not known to be a run's, or its disk has gone.
        """
        paths = {
            path.relative_to(self._directory).as_posix(): path
            for path in sorted(self._directory.rglob("*"))
            if path.is_file()
        }
        if JOURNAL not in paths:
            return {}
        return {name: _state(path) for name, path in paths.items() if _belongs(name)}

    def _compare(self, here: Mapping[str, State]) -> None:
        """At first: what the copy holds, and which large files are as they are here."""
        if self._compared:
            return
        for name, info in self._storage.listing().items():
            if _belongs(name) and name not in self._copied:
                same = name in here and not _is_small(name) and _is_copy(info, here[name])
                self._copied[name] = here[name] if same else None
        self._compared = True

    def _remove(self, here: Mapping[str, State]) -> None:
        """Of the copy, what is not here any more, and weights that have changed.

        Those before results are written: none is told with another's weights, however it ends.
        """
        for name, state in list(self._copied.items()):
            if name not in here or (name.endswith(WEIGHTS) and state != here[name]):
                self._storage.delete(name)
                del self._copied[name]

    def _uncopied(self, here: Mapping[str, State]) -> list[str]:
        """Files to write, in their order; the journal first, which tells how far the copy is."""
        names = [name for name, state in here.items() if self._copied.get(name) != state]
        return sorted(names, key=lambda name: (name != JOURNAL, not _is_small(name), name))

    def _write(self, name: str) -> None:
        path = self._directory / name
        state = _state(path)
        if self._copied.get(name) != state:  # or the other thread has
            with self._storage.writing(name) as target:
                target.write(path.read_bytes())
            self._copied[name] = state

    def _follow(self) -> None:
        failures = 0
        while not self._done.wait(INTERVAL):
            self.copy(self._done.is_set)
            failures += bool(self.failure)
            if self.failure and failures == TOLD:
                self._warn(f"copying fails and is tried again: {self.failure}")
        self.copy(self._interrupted.is_set)

    def tell(self) -> None:
        """Say what the copy lacks at the end, if anything."""
        if self.failure:
            self._warn(f"the copy is not up to date: {self.failure}")
        elif self.left:
            self._warn(f"{self.left} files are not copied yet; --resume copies them")

    def _warn(self, text: str) -> None:
        self._console.print(f"warning: --storage: {text}", highlight=False)


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
        mirror.tell()


def _run(journal: bytes, where: str, resume: bool) -> bytes:
    """The whole lines of a journal, if they hold a run; a copy may be cut anywhere, too."""
    whole = journal[: journal.rfind(b"\n") + 1]
    return whole if holds_run(parse_journal(whole, f"{where}/{JOURNAL}"), where, resume) else b""


def _belongs(name: str) -> bool:
    """Whether a file is part of the copy; locks and half-written files are not."""
    parts = PurePosixPath(name).parts
    return parts[0] not in LEFT_OUT and not any(part.startswith(".") for part in parts)


def _thread(target: Callable[..., None], *args: object) -> threading.Thread:
    return threading.Thread(target=target, args=args, name=COPYING, daemon=True)


def _is_small(name: str) -> bool:
    return name.endswith(SMALL)


def _state(path: Path) -> State:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


def _is_copy(there: FileInfo, here: State) -> bool:
    """Whether a file, as files are replaced whole, has not changed since it was copied."""
    size, changed = here
    return there.size == size and there.mtime_ns is not None and changed <= there.mtime_ns
