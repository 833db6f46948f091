"""The versions of what a run is made with: Python, the libraries, and this project's own source."""

from __future__ import annotations

import hashlib
import platform
import tomllib
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("data", "models", "records", "report", "search_spaces", "tune")
LIBRARIES = ("torch", "open_clip_torch", "ray", "optuna", "timm", "numpy")


def versions() -> dict[str, str]:
    """Return the versions by name; the project's has a digest of its source.

    A commit would not tell of changes that are in none.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = {
        project["name"]: f"{project['version']}+{_source()}",
        "python": platform.python_version(),
    }
    return own | {library: version(library) for library in LIBRARIES}


def _source() -> str:
    """Digest the modules that a run consists of."""
    digest = hashlib.sha256()
    found = [*ROOT.glob("*.py"), *(file for room in ROOMS for file in (ROOT / room).rglob("*.py"))]
    for file in sorted(found):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(ROOT).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:12]
