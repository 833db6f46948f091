"""Components written into a file and imported, as somebody might add them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType


def imported(folder: Path, name: str, text: str) -> ModuleType:
    """The module of that text, from a file of its own in `folder`."""
    path = folder / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
