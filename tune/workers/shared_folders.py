"""Folders that all machines must share: each is asked for a file that this process wrote there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from pyarrow.fs import LocalFileSystem

from files import nearest
from tune.storage.storage import ERRORS, Storage


@dataclass(frozen=True)
class SharedFolder:
    """A folder that every machine must reach at the same place.

    Attributes:
        key: the option that names it.
        holds: what machines read there.
    """

    storage: Storage
    key: str
    holds: str

    def unseen_by(self, machines: Iterable[str]) -> str:
        """Say which machines do not see it, and what to do."""
        return (
            f"{self.key}: {', '.join(machines)} cannot read what this machine writes to "
            f"{self.storage.path}; every machine of the cluster needs {self.holds}: name a "
            "folder that all share at the same path"
        )


@dataclass(frozen=True)
class Mark:
    """A file whose content is its name, in a folder to be shared; its name is new each time.

    So no machine remembers that it was not there, as network file systems do.
    """

    folder: SharedFolder
    place: Storage
    name: str

    def seen(self) -> bool:
        """Whether this machine reads it."""
        with suppress(*ERRORS), self.place.reading(self.name) as file:
            return bytes(file.read()) == self.name.encode()
        return False


@contextmanager
def marked(folders: Iterable[SharedFolder]) -> Iterator[tuple[Mark, ...]]:
    """Write a mark into each folder, or the nearest above that is there; they go after the block.

    A folder that cannot be written to has none: what reads it says so itself.
    """
    with ExitStack() as stack:
        marks = []
        for folder in folders:
            place = folder.storage
            if isinstance(place.filesystem, LocalFileSystem):
                place = Storage.at(nearest(Path(place.path)))
            mark = Mark(folder, place, f".{uuid4().hex}.tmp")
            with suppress(*ERRORS):
                stack.callback(_remove, mark)
                with place.writing(mark.name) as file:
                    file.write(mark.name.encode())
                marks.append(mark)
        yield tuple(marks)


def _remove(mark: Mark) -> None:
    with suppress(*ERRORS):
        mark.place.delete(mark.name)
