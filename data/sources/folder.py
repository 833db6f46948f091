"""The `folder:PATH` source: one folder for each class, under train/val/test or undivided."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from data.sources.base import SPLIT_NAMES, FileSource, Listing, SourceKind, SplitName
from data.sources.image_files import (
    PassedOver,
    images_below,
    is_file,
    is_folder,
    is_hidden,
    is_image,
)
from errors import InputError

if TYPE_CHECKING:
    from data.config import SourceConfig

Splits = dict[SplitName, Path]

_LIKE_A_SPLIT = re.compile(rf"(?:.*[^a-z])?({'|'.join(SPLIT_NAMES)})(?:[^a-z].*|set|data|images)?")
"""`training_set`, `testdata`, `images-val`: other spellings of a split's name."""


class Folder(SourceKind):
    """Image files whose folder names their class.

    With a `train` subfolder (or `Training`: see `SPLIT_NAMES`), the class folders lie in it and in
    those of the other splits; otherwise in the folder itself. Whatever is no image, or a system's
    own, is passed over and counted.
    """

    def check(self, config: SourceConfig) -> None:
        """Raise InputError if there is no such folder."""
        place = config.path
        if os.path.isfile(place):
            raise InputError(f"source: {place} is a file; folder: needs a folder of class folders")
        if not os.path.isdir(place):  # unlike Path's, it knows what to say of a name too long
            raise InputError(f"source: no folder {place!s:.200}")

    def list_images(self, config: SourceConfig) -> Listing:
        """List every image below the folder, in sorted order."""
        self.check(config)
        root = config.path
        passed = PassedOver()
        try:
            rows = [
                (path.relative_to(root).as_posix(), label, split)
                for split, folder in _split_folders(root, passed).items()
                for path, label in _labelled_images(root, folder, split, passed)
            ]
        except OSError as error:
            raise InputError(f"source: cannot list {error.filename} ({error.strerror})") from error
        keys, labels, splits = zip(*rows, strict=True)
        return Listing(FileSource(root), keys, labels, splits, passed_over=tuple(passed.lines()))


def _folders(place: Path, passed: PassedOver) -> list[Path]:
    """List the folders in a place, but for a system's own."""
    found = sorted(Path(entry.path) for entry in os.scandir(place) if is_folder(entry))
    if hidden := [path.name for path in found if is_hidden(path.name)]:
        passed.add("hidden folder{s}", *hidden)
    return [path for path in found if not is_hidden(path.name)]


def _split_folders(root: Path, passed: PassedOver) -> Splits:
    splits: Splits = {}
    others, hidden = [], PassedOver()
    for folder in _folders(root, hidden):
        split = SPLIT_NAMES.get(folder.name.lower())
        if split is None:
            others.append(folder.name)
        elif split in splits:
            raise InputError(
                f"source: {root} has both {splits[split].name}/ and {folder.name}/; keep one"
            )
        else:
            splits[split] = folder
    if splits and "train" not in splits:
        name = next(iter(splits.values())).name
        raise InputError(
            f"source: {root} has {name}/, but no train/; call the folder of training images train, "
            f"or {name} something else if it is a class"
        )
    if splits:
        passed.update(hidden)
    if splits and others:
        passed.add("folder{s} beside the splits'", *others)
    return splits or {"train": root}


def _labelled_images(
    root: Path, folder: Path, split: SplitName, passed: PassedOver
) -> list[tuple[Path, str]]:
    class_folders = _folders(folder, passed)
    loose = list(_images_in(folder))
    if not class_folders:
        _refuse_without_classes(root, folder, split, bool(loose))
    if split == "train":
        _refuse_wrong_level(root, folder, class_folders)
    found: list[tuple[Path, str]] = []
    for class_folder in class_folders:
        images, left = images_below(class_folder, root)
        passed.update(left)
        if not images and split == "train" and not left.is_results_alone:
            raise InputError(
                f"source: class folder {class_folder} holds no image; fill it or remove it "
                f"({'; '.join(left.lines()) or 'it is empty'})"
            )
        found += [(path, class_folder.name) for path in images]
    if not found:
        _refuse_without_classes(root, folder, split, images=False)
    if split == "train":
        _tell_of_inner_folders(folder, found, passed)
    if loose:
        passed.add("image{s} beside the class folders", *loose)
    return found


def _tell_of_inner_folders(folder: Path, found: list[tuple[Path, str]], passed: PassedOver) -> None:
    """Tell of folders inside the class folders that hold all images: they may be the classes."""
    inner = [path.relative_to(folder).parts[1:-1] for path, _ in found]
    names = sorted({"/".join(parts) for parts in inner})
    if all(inner) and len(names) > len({label for _, label in found}):
        few = ", ".join(names[:5]) + ", …" * (len(names) > 5)
        passed.told.append(
            f"all images lie in {len(names)} folders inside the class folders ({few}); if those "
            "are the classes, name the folder above them, or list the images in a csv:"
        )


def _images_in(folder: Path) -> Iterator[str]:
    """Name the images that lie in a folder itself."""
    for entry in os.scandir(folder):
        if is_file(entry) and not is_hidden(entry.name) and is_image(Path(entry.path)):
            yield entry.name


def _refuse_without_classes(root: Path, folder: Path, split: SplitName, images: bool) -> None:
    said = f"source: {folder} holds no images in one folder a class"
    if folder == root:
        hint = f"if it is one class of several, name the folder above it, {root.parent}"
    elif split == "train":
        hint = f"if {folder.name} is a class and no split, call it something else"
    else:
        hint = f"take {folder.name}/ away, and {split} is drawn from train"
    raise InputError(f"{said}{', but images themselves' * images}; {hint}")


def _refuse_wrong_level(root: Path, folder: Path, classes: list[Path]) -> None:
    """Raise InputError if what looks like classes are splits, copies or folds that hold classes.

    Class folders may have folders of their own, such as one for each patient.
    """
    names = ", ".join(f"{path.name}/" for path in classes[:5]) + ", …" * (len(classes) > 5)
    likes = [_LIKE_A_SPLIT.fullmatch(path.name.lower()) for path in classes]
    if all(likes) and len({SPLIT_NAMES[like[1]] for like in likes if like}) > 1:
        raise InputError(
            f"source: the folders of {folder} are named like splits, not classes ({names}); call "
            "them train, val and test"
        )
    if any(True for each in classes for _ in _images_in(each)):
        return
    inside = [[path.name for path in _folders(each, PassedOver())] for each in classes]
    if not inside[0] or any(found != inside[0] for found in inside):
        return
    common = ", ".join(f"{name}/" for name in inside[0][:5]) + ", …" * (len(inside[0]) > 5)
    if len(classes) == 1:
        hint = f"name it: folder:{classes[0]}" if folder == root else f"move them to {folder}"
        raise InputError(
            f"source: {folder} has one folder, {names}, which holds {common}; if those are the "
            f"classes or splits, {hint}"
        )
    if all(name.lower() in SPLIT_NAMES for name in inside[0]):
        raise InputError(
            f"source: the folders of {folder} ({names}) each hold {common}; splits stand above "
            f"classes: {folder}/train/{classes[0].name}"
        )
    if len(inside[0]) > 1:
        raise InputError(
            f"source: the folders of {folder} ({names}) each hold the same folders ({common}), "
            f"which look like the classes; name one, such as folder:{classes[0]}, or list the "
            "images in a csv:"
        )
