"""The `folder:PATH` source: one folder for each class, under train/val/test or undivided."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from data.sources.base import SPLIT_NAMES, FileSource, Listing, SourceKind, SplitName
from errors import InputError

if TYPE_CHECKING:
    from data.config import SourceConfig

EXTENSIONS = frozenset(
    (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
)


class Folder(SourceKind):
    """Image files whose folder names their class.

    With a `train` subfolder, in whatever case, the class folders lie in `train`, `val` (or
    `valid`, `validation`) and `test`; otherwise in the folder itself. Hidden files, and files
    without an image's extension, are skipped.
    """

    def list_images(self, config: SourceConfig) -> Listing:
        """List every image below the folder, in sorted order."""
        root = config.path
        if not root.is_dir():
            raise InputError(f"source: no folder {root}")
        try:
            rows = [
                (path.relative_to(root).as_posix(), label, split)
                for split, folder in _split_folders(root).items()
                for path, label in _labelled_images(folder, split)
            ]
        except OSError as error:
            raise InputError(f"source: cannot list {error.filename} ({error.strerror})") from error
        keys, labels, splits = zip(*rows, strict=True)
        return Listing(FileSource(root), keys, labels, splits)


def _split_folders(root: Path) -> dict[SplitName, Path]:
    folders: dict[SplitName, Path] = {}
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        if split := SPLIT_NAMES.get(folder.name.lower()):
            if split in folders:
                raise InputError(
                    f"source: {root} has both {folders[split].name}/ and {folder.name}/; keep one"
                )
            folders[split] = folder
    if folders and "train" not in folders:
        name = next(iter(folders.values())).name
        raise InputError(
            f"source: {root} has {name}/, but no train/; call the folder of training images train, "
            f"or {name} something else if it is a class"
        )
    return folders or {"train": root}


def _labelled_images(folder: Path, split: SplitName) -> list[tuple[Path, str]]:
    found: list[tuple[Path, str]] = []
    for class_folder in sorted(path for path in folder.iterdir() if path.is_dir()):
        if class_folder.name.startswith("."):
            continue
        images = [(path, class_folder.name) for path in _images(class_folder)]
        if not images and split == "train":
            raise InputError(
                f"source: class folder {class_folder} holds no image; "
                f"fill it or remove it (read are: {' '.join(sorted(EXTENSIONS))})"
            )
        found += images
    if not found:
        raise InputError(f"source: {folder} holds no images in one folder a class")
    return found


def _images(folder: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in EXTENSIONS
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )
