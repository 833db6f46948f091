"""Which files below a folder are images, and what is passed over."""

from __future__ import annotations

import os
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from data.decoding import HEIC_ENDINGS, reads_heic

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)
"""Endings of images. Other files are images if their content says so (see `is_image`)."""

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "PPM", "AVIF", "JPEG2000")
"""What a file of another ending may hold. A camera's raw file would pass for a TIFF, and be read as
the thumbnail that it begins with."""

NO_IMAGES = frozenset(
    f".{ending}"
    for ending in (
        *("txt", "csv", "tsv", "json", "jsonl", "xml", "xmp", "aae", "yaml", "yml", "md", "html"),
        *("pdf", "py", "ipynb", "zip", "npy", "npz", "mat", "db", "ini", "log", "mp4", "mov"),
        *("avi", "bak", "old", "orig", "tmp", "part", "crdownload"),
    )
)
"""Endings of files that are passed over unopened: notes, labels, films, copies put aside."""

RUN_FILE = "events.jsonl"
"""A folder with this file is a run's results: the journal's name, which records/ knows."""

RESULTS = "folder{s} of a run's results"
NAMED = 5  # endings and folders that are named; others are counted


@dataclass
class PassedOver:
    """What was passed over: files by their ending, everything else by the reason.

    Attributes:
        told: further lines on what was found.
    """

    files: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)
    others: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, reason: str, *names: str) -> None:
        """Note a folder, or another thing that is no readable file; `{s}` is the plural's."""
        self.others[reason] += names

    def update(self, other: PassedOver) -> None:
        """Add what another folder's listing passed over."""
        self.files.update(other.files)
        self.told += other.told
        for reason, names in other.others.items():
            self.add(reason, *names)

    @property
    def is_results_alone(self) -> bool:
        """Whether there was nothing but results of runs."""
        return not self.files and list(self.others) == [RESULTS]

    def lines(self) -> list[str]:
        """Say in lines what was passed over; no lines if nothing was."""
        lines = [*self.told]
        if total := self.files.total():
            common = self.files.most_common(NAMED)
            known = [f"{count} {ending or 'without an ending'}" for ending, count in common]
            if rest := total - sum(count for _, count in common):
                known.append(f"{rest} others")
            lines.append(f"{_counted(total, 'file{s}')} passed over: {', '.join(known)}")
        if any(ending.lower() in HEIC_ENDINGS for ending in self.files):
            lines.append("HEIC photos: convert them to JPEG, or install pillow-heif")
        for reason, names in self.others.items():
            few = sorted(set(names))
            more = ", …" if len(few) > NAMED else ""
            counted = _counted(len(names), reason)
            lines.append(f"{counted} passed over: {', '.join(few[:NAMED])}{more}")
        return lines


def _counted(number: int, nouns: str) -> str:
    return f"{number} {nouns.format(s='' if number == 1 else 's')}"


def is_hidden(name: str) -> bool:
    """Whether a name is a system's own: `.git`, `@eaDir` (Synology), `__MACOSX` and the like."""
    return name.startswith((".", "@", "__")) or name == "$RECYCLE.BIN"


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; a link to itself is none."""
    return os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()


def is_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file or a link to one; a pipe, a device or a link to itself is none."""
    return os.path.isfile(entry.path) if entry.is_symlink() else entry.is_file()


def is_image(path: Path) -> bool:
    """Whether a file is to be read as an image: by its ending, else by its first bytes."""
    ending = path.suffix.lower()
    if ending in EXTENSIONS or (ending in HEIC_ENDINGS and reads_heic()):
        return True
    if ending in NO_IMAGES or ending in HEIC_ENDINGS or path.name.endswith("~"):
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a large image
            Image.open(path, formats=FORMATS).close()
    except Exception:  # it is no image; one with a known ending is reported later
        return False
    return True


def images_below(folder: Path, root: Path) -> tuple[list[Path], PassedOver]:
    """List the image files below a folder of `root`, sorted, and what is passed over.

    Links to folders are followed, but no folder is listed twice, nor one that holds `root`.
    """
    images: list[Path] = []
    passed = PassedOver()
    above = {place for end in (folder.resolve().parent, root.resolve()) for place in _upwards(end)}
    entered = {_identity(place) for place in above}
    starts = [folder]
    while starts:  # first what lies in the folder itself, then what links lead to
        starts = [link for start in starts for link in _list_tree(start, entered, images, passed)]
    return sorted(images), passed


def _list_tree(
    start: Path, entered: set[tuple[int, int]], images: list[Path], passed: PassedOver
) -> list[Path]:
    """Add the images of a tree to `images`; return the links to folders in it."""
    stack = [start]
    links: list[Path] = []
    while stack:
        folder = stack.pop()
        identity = _identity(folder)
        if identity in entered:
            passed.add("linked folder{s} listed already", folder.name)
            continue
        entered.add(identity)
        try:
            entries = list(os.scandir(folder))
        except PermissionError:
            passed.add("folder{s} without permission to read", folder.name)
            continue
        if any(entry.name == RUN_FILE for entry in entries):
            passed.add(RESULTS, folder.name)
            continue
        for entry in entries:
            path = folder / entry.name
            if is_hidden(entry.name):
                passed.add("hidden folder{s}" if is_folder(entry) else "hidden file{s}", entry.name)
            elif is_folder(entry):
                (links if entry.is_symlink() else stack).append(path)
            elif entry.is_symlink() and not path.exists():
                passed.add("link{s} to nothing", entry.name)
            elif is_file(entry) and is_image(path):
                images.append(path)
            elif is_file(entry):
                passed.files[path.suffix] += 1
            else:
                passed.add("pipe{s} or device{s}", entry.name)
    return sorted(links)


def _upwards(folder: Path) -> Iterator[Path]:
    yield folder
    yield from folder.parents


def _identity(folder: Path) -> tuple[int, int]:
    found = folder.stat()
    return found.st_dev, found.st_ino
