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

With open_clip, for embeddings too:

```python
import json

import open_clip
import torch
from photos import prepared  # beside this file
from safetensors.torch import load_file

model, preprocess = open_clip.create_model_from_pretrained("local-dir:.")  # this folder
classifier = load_file("classifier.safetensors")
classes = json.load(open("classes.json", encoding="utf-8"))
pixels = preprocess(prepared("photo.jpg")).unsqueeze(0)
with torch.no_grad():
    embedding = model.eval().encode_image(pixels, normalize=True)
    logits = embedding @ classifier["weight"].T + classifier["bias"]
    probabilities = logits.softmax(-1)
print(classes[probabilities.argmax()])
```
"""

_TEXTS = """
The text tower is as it was, so texts fit the adapted embeddings less well than those of the base
weights.
"""

_NO_TOKENIZER = """
The text tower's tokenizer could not be loaded when this was written. Texts need its files here.
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

    def text(self, description: Description, size: tuple[int, int], tokenizer: bool) -> str:
        """Write the card, in Markdown; `tokenizer` says whether texts can be read."""
        height, width = size
        classes = description.classes
        base = _base(description.model)
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
        more = f" and {len(classes) - LISTED} more" if len(classes) > LISTED else ""
        lines = [
            f"# {markdown(self.run)}: an image classifier adapted from CLIP",
            "",
            "| | |",
            "| --- | --- |",
            *(f"| {name} | {markdown(value)} |" for name, value in rows.items()),
            "",
            f"{len(classes)} classes: {named}{more}.",
        ]
        use = _USE.format(opset=OPSET, height=height, width=width, classes=len(classes))
        texts = "" if description.recipe.frozen_encoder else _TEXTS
        return "\n".join(lines) + "\n" + use + texts + ("" if tokenizer else _NO_TOKENIZER)


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
