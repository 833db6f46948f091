"""A whole data source, as somebody would add it, in a file of its own."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from data.sources import SOURCES

TOY = '''"""The `shapes:COUNT` source: squares and stripes in growing brightness."""

from dataclasses import dataclass

from PIL import Image

from data.decoding import pixel_digest
from data.sources import Listing, SourceKind
from errors import InputError


@dataclass(frozen=True)
class ShapesReader:
    """Draws the shape `square/N` or `stripe/N`."""

    def digest(self, key: str) -> str:
        """Compute the digest of the drawn pixels."""
        return pixel_digest(self.image(key))

    def image(self, key: str, least: int | None = None) -> Image.Image:
        """Draw a shape of brightness N on black."""
        shape, _, brightness = key.partition("/")
        image = Image.new("RGB", (8, 8))
        image.paste((int(brightness),) * 3, (0, 0, 8 if shape == "stripe" else 4, 4))
        return image


class Shapes(SourceKind):
    """COUNT shapes, half of them squares."""

    place = "COUNT"

    def list_images(self, config):
        """List the shapes; raises InputError if COUNT is no number."""
        if not config.place.isdecimal():
            raise InputError(f"source: COUNT is a number, not {config.place!r}")
        labels = tuple(("square", "stripe")[n % 2] for n in range(int(config.place)))
        keys = tuple(f"{label}/{40 + 5 * n}" for n, label in enumerate(labels))
        return Listing(ShapesReader(), keys, labels, splits=("train",) * len(keys))
'''


def register_toy(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Write the source into a file, import it and name it in the registry."""
    (folder / "toy_source.py").write_text(TOY)
    spec = importlib.util.spec_from_file_location("toy_source", folder / "toy_source.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "toy_source", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(SOURCES, "shapes", module.Shapes())
    return module
