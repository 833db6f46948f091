"""A run goes on from its copy, where the copy has more events than the run's directory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from errors import InputError, one_line
from files import replacing
from records import JOURNAL, holds_run, parse_journal
from tune.storage.copier import State, belongs, files_of, state_of
from tune.storage.storage import ERRORS, Storage


def fetch(directory: Path, storage: Storage, resume: bool) -> dict[str, State]:
    """Make a run's directory equal to its copy, if the copy's journal continues the one here.

    Another machine may have gone on since the journal here was written. The storage is only read.

    Returns:
        The files that were fetched, with their new states.

    Raises:
        InputError: a run is here or there and `resume` is off; each of both has events that the
            other lacks; one of them cannot be read; the directory cannot be written to; or the
            storage holds something else than a run.
    """
    # The copy is read first: a process at work on this directory only makes what is here longer.
    there = b""
    with refusing(f"--storage: cannot read {storage.path}"):
        with suppress(FileNotFoundError):
            there = _content(storage, JOURNAL)
        names = {name for name in storage.listing() if belongs(name)}
    there = _run_in(there, f"--storage: {storage.path}", resume)
    if names and JOURNAL not in names:  # the copy would delete them
        raise InputError(
            f"--storage: {storage.path} holds files, and no run; needed is another folder, or "
            "another --name"
        )
    journal = directory / JOURNAL
    with refusing(f"--out: cannot read {journal}"):
        here = journal.read_bytes() if journal.exists() else b""
    here = _run_in(here, str(directory), resume)
    if here.startswith(there):
        return {}
    if not there.startswith(here):
        raise InputError(
            f"--resume: {directory} and its copy {storage.path} each have events that the other "
            "lacks, as two machines went on with the run; move away the one that is not to go on"
        )
    fetched = {name: _bring(directory, storage, name) for name in sorted(names - {JOURNAL})}
    with refusing(f"--out: cannot write to {directory}"):
        for name in files_of(directory).keys() - names:
            (directory / name).unlink(missing_ok=True)
    # The journal comes last: with it the directory holds the run.
    return fetched | {JOURNAL: _bring(directory, storage, JOURNAL)}


def _bring(directory: Path, storage: Storage, name: str) -> State:
    """Replace a file here by the copy's; return its new state."""
    with refusing(f"--storage: cannot read {storage.path}"):
        content = _content(storage, name)
    with refusing(f"--out: cannot write to {directory}"):
        with replacing(directory / name) as temporary:
            temporary.write_bytes(content)
        return state_of(directory / name)


def _run_in(journal: bytes, where: str, resume: bool) -> bytes:
    """Return the whole lines of a journal that holds a run; a crash may have cut its last."""
    whole = journal[: journal.rfind(b"\n") + 1]
    return whole if holds_run(parse_journal(whole, f"{where}/{JOURNAL}"), where, resume) else b""


def _content(storage: Storage, name: str) -> bytes:
    with storage.reading(name) as file:
        return bytes(file.read())


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Raise an error of the block as an InputError, in one line."""
    try:
        yield
    except ERRORS as error:
        raise InputError(f"{what}: {getattr(error, 'strerror', None) or one_line(error)}") from None
