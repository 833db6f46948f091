"""The model card of a package."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePath

from models.config import LOCAL_DIR, ModelConfig
from models.exported import Description
from models.package.onnx_file import OPSET
from text import markdown

LISTED = 50  # classes that the card names; all are in classes.json

_USE = """
## How to use it

Without PyTorch, in Python with onnxruntime, numpy and Pillow:

```sh
python predict.py photo.jpg
```

`model.onnx` (opset {opset}) maps `pixels`, float32 (n, 3, {height}, {width}), preprocessed as
`preprocess.json` says, to `probabilities` (n, {classes}), in the order of `classes.json`.
"""


@dataclass(frozen=True)
class Card:
    """What a card says of where a model comes from; texts are written as they are.

    Attributes:
        run: the run's name.
        source: the data's, such as `folder:/photos/flowers`; of a path the card has the end alone.
        partition, method: the cell, as people read it.
        configuration: the method's settings.
        accuracy: on the test images, over all seeds, with its interval.
        seed: that of this model.
        seed_accuracy: of this model alone.
    """

    run: str
    source: str
    partition: str
    method: str
    configuration: str
    accuracy: str
    seed: int
    seed_accuracy: str

    def text(self, description: Description, size: tuple[int, int], more: str) -> str:
        """Write the card, in Markdown; `more` is what it says of the library and of texts."""
        height, width = size
        classes = description.classes
        base = _base(description.model)
        adapted = "CLIP" if description.model.reads_text else "an image tower"
        rows = {
            "data": _last(self.source),
            "training images": self.partition,
            "method": self.method,
            "configuration": self.configuration,
            "test accuracy": self.accuracy,
            "of this model": f"{self.seed_accuracy} (seed {self.seed})",
            "computed in": _precision(description),
            "base weights": base,
            "licence": "as of the base weights",
        }
        named = ", ".join(map(markdown, classes[:LISTED]))
        others = f" and {len(classes) - LISTED} more" if len(classes) > LISTED else ""
        lines = [
            f"# {markdown(self.run)}: an image classifier adapted from {adapted}",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {markdown(value)} |" for name, value in rows.items()),
            "",
            f"{len(classes)} classes: {named}{others}.",
        ]
        use = _USE.format(opset=OPSET, height=height, width=width, classes=len(classes))
        return "\n".join(lines) + "\n" + use + more


def _precision(description: Description) -> str:
    """Say in which type the figures were measured, if it is not that of the files."""
    measured = description.precision
    return "float32" if measured == "float32" else f"float32; the figures are of {measured}"


def _base(model: ModelConfig) -> str:
    """Name the model that was adapted."""
    name = _last(model.name) if model.name.startswith(LOCAL_DIR) else model.name
    return f"{name} ({_last(model.pretrained)})" if model.pretrained else name


def _last(place: str) -> str:
    """Leave of a path what no other machine's folders show: `folder:/a/b` is `folder:b`.

    The owner in a name of the hub, `hf:owner/name`, is no folder.
    """
    kind, colon, path = place.rpartition(":")
    if kind == "hf" and not path.startswith(("/", ".", "~")):
        return place
    return f"{kind}{colon}{PurePath(path).name}"
