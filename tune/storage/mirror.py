"""Keeps a copy of a run in a storage; a run whose copy is newer starts from the copy.

Ray's own storage is of no use here: it copies Tune's snapshots, and those are not our state.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import chdir, closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from pyarrow.fs import LocalFileSystem
from rich.console import Console

from errors import InputError, one_line
from files import check_folder
from terminal import say
from tune.storage.copier import Copier, files_of
from tune.storage.fetch import fetch, refusing
from tune.storage.storage import Storage

INTERVAL = 5.0  # seconds from the end of a copy to the beginning of the next
LAST = 3.0  # seconds for the last copy of an interrupted run
ROOT = Path(__file__).resolve().parents[2]
WAKE = 0.5  # seconds of waiting after which Python sees a signal that came just before
FAILURES = 2  # failed copies before a warning; one may be of a file that was just replaced
SPAWN = multiprocessing.get_context("spawn")  # forked, pyarrow's and Ray's threads would be missing


def place_of_copy(directory: Path, place: str) -> Storage:
    """Find where the copy of a run's directory goes, in the folder of all runs that `place` names.

    Raises:
        InputError: no filesystem takes the URL, the folder cannot be written to, or one of the two
            folders would hold the other.
    """
    storage = Storage.at(place) / directory.name
    if not isinstance(storage.filesystem, LocalFileSystem):
        return storage
    check_folder(Path(storage.path), "--storage")
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


@contextmanager
def mirrored(
    directory: Path,
    storage: Storage,
    resume: bool,
    console: Console,
    interval: float = INTERVAL,
    last: float = LAST,
) -> Iterator[None]:
    """Keep a copy of a run's directory, without checkpoints; start from the copy if it is newer.

    Two child processes write the copy: a process can be killed, a thread in an upload cannot. The
    follower copies while the run goes on, `interval` seconds after the copy before, and once more
    at the run's end. If the run is interrupted, the standby makes the last copy in `last` seconds,
    as the follower may be held up by a large file.

    Raises:
        InputError: the storage cannot be written to, or `fetch` refuses; it is left as it was.
    """

    def warn(text: str) -> None:
        say(console, f"warning: --storage: {text}")

    copier = Copier(directory.absolute(), storage, fetch(directory, storage, resume))
    with refusing(f"--storage: cannot write to {storage.path}"):
        with storage.writing(".writable") as file:
            file.write(b"")
        storage.delete(".writable")
    follower, standby = (_Child(copier, each, warn) for each in (interval, None))
    with closing(follower), closing(standby):
        follower.start()
        standby.start()
        try:
            try:
                yield
            except Exception:
                follower.finish()
                raise
            follower.finish()
        except KeyboardInterrupt:
            follower.close()
            if not standby.finish(copier, last):
                standby.close()
                with suppress(OSError):  # of a file that is replaced just now
                    if left := len(copier.lacking(files_of(directory))):
                        warn(f"{left} files are not copied yet; --resume copies them")
            raise


class _Child:
    """A process that writes a copy, and the thread that hears from it.

    It copies every `interval` seconds; with None it makes the last copy alone.
    """

    def __init__(self, copier: Copier, interval: float | None, warn: Callable[[str], None]) -> None:
        self._copier, self._warn = copier, warn
        self._pipe, self._theirs = SPAWN.Pipe()
        work = (copier, interval, self._theirs)
        self._process = SPAWN.Process(target=_work, args=work, daemon=True)
        self._listener = threading.Thread(target=self._listen, daemon=True)

    def start(self) -> None:
        """Start the process; signals to the whole process group do not reach it."""
        ours = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            with chdir(ROOT):  # from where it imports before anything else
                self._process.start()  # with this mask
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, ours)
        self._theirs.close()
        self._listener.start()

    def _listen(self) -> None:
        with suppress(EOFError, OSError):  # the process has ended
            while True:
                said = self._pipe.recv()
                if isinstance(said, str):
                    self._warn(said)
                else:
                    self._copier.note(said)

    def finish(self, copier: Copier | None = None, seconds: float | None = None) -> bool:
        """Have the last copy made, by another copier if given; return whether it was in time."""
        with suppress(OSError):  # the process has died
            self._pipe.send(copier)
        ends = math.inf if seconds is None else time.monotonic() + seconds
        while self._process.is_alive() and (left := ends - time.monotonic()) > 0:
            self._process.join(min(left, WAKE))
        if self._process.exitcode:
            self._warn("the copy is not up to date: its process died")
        return self._process.exitcode is not None

    def close(self) -> None:
        """End the process, whatever it does, once all is heard that it said."""
        if self._process.pid is not None:
            self._process.kill()
            self._process.join()
        if self._listener.is_alive():
            self._listener.join()


def _work(copier: Copier, interval: float | None, parent: Connection) -> None:
    """Copy every `interval` seconds, and once more when the parent asks for the last copy."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    failures = 0
    while not parent.poll(interval):
        if failure := _copied(copier, parent, last=False):
            failures += 1
            if failures == FAILURES:
                parent.send(f"copying fails and is tried again: {failure}")
    if failure := _copied(parent.recv() or copier, parent, last=True):
        parent.send(f"the copy is not up to date: {failure}")


def _copied(copier: Copier, parent: Connection, last: bool) -> str | None:
    """Make a copy, and say of each file that it is there; returns why that failed, if it did."""
    try:
        for step in copier.copy():
            parent.send(step)
            if not last and parent.poll():
                break  # the last copy begins with the journal again
    except Exception as error:  # of any kind: the run goes on, and the next copy may succeed
        return one_line(error)
    return None


def _end_with_parent() -> None:
    """Kill this process once its parent has died: no one else may write beside a resumed run."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os.kill(os.getpid(), signal.SIGKILL)
