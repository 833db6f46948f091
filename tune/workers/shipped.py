"""The code that workers on other machines import: this project's packages, and nothing beside."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("commands", "data", "models", "records", "report", "search_spaces", "tune")
CODE = (".py", ".pyi")  # the latter say what the lazy packages have


@contextmanager
def shipped_code(root: Path = ROOT) -> Iterator[Path]:
    """Yield a folder with copies of what workers import, for Ray to send; it goes afterwards.

    A checkout may also hold users' photos, runs and keys, which nobody wants sent.
    """
    with tempfile.TemporaryDirectory(prefix="clip-search-code-") as folder:
        for file in _code_in(root):
            copy = Path(folder) / file.relative_to(root)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
        yield Path(folder)


def _code_in(root: Path) -> Iterator[Path]:
    """List the modules beside the packages, and all files of code in these."""
    yield from root.glob("*.py")
    folders = [root / name for name in PACKAGES]
    while folders:
        for entry in folders.pop().iterdir():
            if entry.is_dir():
                folders += [entry] if (entry / "__init__.py").is_file() else []
            elif entry.suffix in CODE:
                yield entry
