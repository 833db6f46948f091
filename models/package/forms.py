"""The two forms that the model of a package has: open_clip's, and timm's where no text is read."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import open_clip
import timm.models
import torch
from open_clip.model import QuickGELU
from open_clip.timm_model import TimmModel
from safetensors.torch import save_file
from torch import Tensor

from errors import InputError
from models.config import CONFIG, LOCAL_DIR, TIMM, TIMM_CONFIG, ModelConfig
from models.exported import Description
from models.loading import UNLOADABLE, Pretrained, load_pretrained, open_clip_name, quietly
from models.timm_models import RESIZE_MODES

PROJECTION = "projection"
"""The matrix between timm's features and the embedding, beside the classifier."""

_OPEN_CLIP = """
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

_TIMM = """
With timm, for embeddings too:

```python
import json

import timm
import torch
from photos import prepared  # beside this file
from safetensors.torch import load_file

model = timm.create_model("local-dir:.", pretrained=True, num_classes=0).eval()  # this folder
preprocess = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
classifier = load_file("classifier.safetensors")
classes = json.load(open("classes.json", encoding="utf-8"))
pixels = preprocess(prepared("photo.jpg")).unsqueeze(0)
with torch.no_grad():
    projected = model(pixels) @ classifier["projection"].T
    embedding = torch.nn.functional.normalize(projected, dim=-1)
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


class Form(ABC):
    """How a library writes a model to a folder, and reads it.

    Attributes:
        config, weights: the files' names.
        applied: how the classifier is applied, in one line.
        use: how the model is used, in Markdown.
    """

    config: str
    weights: str
    applied: str
    use: str

    @abstractmethod
    def check(self, model: ModelConfig, whole: Any, file: Path) -> None:
        """Raise InputError, which names `file`, if the library could not load the model."""

    @abstractmethod
    def write(self, description: Description, whole: Any, folder: Path) -> dict[str, Tensor]:
        """Write an adapted model; return what the classifier's file must hold beside its own."""

    def preprocessing(self, whole: Any) -> dict[str, Any]:
        """Return how images become pixels, for programs without the library."""
        found = dict(whole.visual.preprocess_cfg)
        size = found["size"]
        return {**found, "size": [size, size] if isinstance(size, int) else [*size]}

    @abstractmethod
    def texts(self, description: Description, folder: Path) -> str:
        """Write what reads texts, and return what is to be said of them, in Markdown."""

    @abstractmethod
    def load(self, folder: Path, beside: dict[str, Tensor]) -> Pretrained:
        """Load what was written.

        Raises:
            InputError: it is damaged.
        """


class OpenClipForm(Form):
    """A CLIP, whose text tower is as it was."""

    config, weights = CONFIG, "open_clip_model.safetensors"
    applied = "softmax(weight @ embedding + bias), of model.encode_image(pixels, normalize=True)"
    use = _OPEN_CLIP

    def check(self, model: ModelConfig, whole: Any, file: Path) -> None:
        """Raise InputError if open_clip could not load the model."""
        if model.image_size is not None and isinstance(whole.visual, TimmModel):
            raise InputError(
                f"{file}: open_clip loads towers of timm for images of their own size alone; "
                "allowed: a run without model.image_size"
            )

    def write(self, description: Description, whole: Any, folder: Path) -> dict[str, Tensor]:
        """Write configuration and weights."""
        save_file(contiguous(whole.state_dict()), folder / self.weights)
        write_json(folder / CONFIG, self._config(description, whole))
        return {}

    def load(self, folder: Path, beside: dict[str, Tensor]) -> Pretrained:
        """Load what was written."""
        return load_pretrained(ModelConfig(name=f"{LOCAL_DIR}{folder.absolute()}"))

    def preprocessing(self, whole: Any) -> dict[str, Any]:
        """Return how images become pixels; see `Form.preprocessing`."""
        found = super().preprocessing(whole)
        height, width = found["size"]
        if found["resize_mode"] == "shortest" and height != width:
            found["interpolation"] = "bicubic"  # open_clip takes it there, whatever is asked for
        return found

    def texts(self, description: Description, folder: Path) -> str:
        """Write the tokenizer where it is not open_clip's own; see `Form.texts`."""
        said = "" if description.recipe.frozen_encoder else _TEXTS
        try:
            with quietly():
                tokenizer = open_clip.get_tokenizer(open_clip_name(description.model.name))
                if hasattr(tokenizer, "save_pretrained"):
                    tokenizer.save_pretrained(folder)
        except UNLOADABLE:
            return said + _NO_TOKENIZER
        return said

    def _config(self, description: Description, model: open_clip.CLIP) -> dict[str, Any]:
        """Return what open_clip builds the model from."""
        tree = dict(open_clip.get_model_config(open_clip_name(description.model.name)))
        if any(isinstance(module, QuickGELU) for module in model.modules()):
            tree["quick_gelu"] = True  # a tag may ask for it
        vision = tree["vision_cfg"] = dict(tree["vision_cfg"])
        if description.model.image_size is not None:
            vision["image_size"] = description.model.image_size
        if isinstance(model.visual, TimmModel) and hasattr(model.visual.head, "proj"):
            vision["timm_proj"] = "linear"  # or it had none
        return {"model_cfg": tree, "preprocess_cfg": model.visual.preprocess_cfg}


class TimmForm(Form):
    """An image tower, in a folder as timm's own `save_for_hf` writes it."""

    config, weights = TIMM_CONFIG, "model.safetensors"
    applied = "softmax(weight @ normalize(projection @ features) + bias), of model(pixels)"
    use = _TIMM

    def check(self, model: ModelConfig, whole: Any, file: Path) -> None:
        """Pass: timm loads whatever it has built."""

    def write(self, description: Description, whole: Any, folder: Path) -> dict[str, Tensor]:
        """Write configuration and weights; return the projection."""
        trunk, how = whole.visual.trunk, whole.visual.preprocess_cfg
        modes = {ours: theirs for theirs, ours in RESIZE_MODES.items()}
        data = {key: how[key] for key in ("mean", "std", "interpolation", "crop_pct")}
        data |= {"input_size": (3, *how["size"]), "crop_mode": modes[how["resize_mode"]]}
        timm.models.save_for_hf(trunk, str(folder), safe_serialization=True, data_config=data)
        return {PROJECTION: whole.visual.head.proj.weight}

    def texts(self, description: Description, folder: Path) -> str:
        """Return nothing: no text is read."""
        return ""

    @torch.no_grad()
    def load(self, folder: Path, beside: dict[str, Tensor]) -> Pretrained:
        """Load what was written."""
        found = load_pretrained(ModelConfig(name=f"{TIMM}{LOCAL_DIR}{folder.absolute()}"))
        last = found.encoder.group(-1)
        weight = next(p for name, p in last.named_parameters() if name.endswith("head.proj.weight"))
        if (projection := beside.get(PROJECTION)) is None or projection.shape != weight.shape:
            raise InputError(f"{folder}: its {PROJECTION} does not fit {TIMM_CONFIG}")
        weight.copy_(projection)
        return found


OPEN_CLIP_FORM, TIMM_FORM = OpenClipForm(), TimmForm()


def contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copy tensors, as safetensors takes none that share memory."""
    return {name: tensor.detach().clone().contiguous() for name, tensor in tensors.items()}


def write_json(path: Path, value: Any) -> None:
    """Write a file of JSON for people too."""
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
