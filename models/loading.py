"""Pretrained encoders by open_clip's and timm's names, checkpoint path, hub, or local folder."""

from __future__ import annotations

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from errors import InputError, did_you_mean, one_line
from files import expanded
from models.checkpoints import check_finite, readable, weights_in
from models.config import CONFIG, HUB, LOCAL_DIR, TIMM, ModelConfig, listed_name, local_folder
from models.encoder import PIXELS, Encoder
from models.head import LinearHead
from models.hub import hub_folder
from models.joined import JoinedPreprocess, join_heads, joined_encoder, parts_of
from models.local_folder import check_config
from models.tags import options_of_file, options_of_tag
from models.timm_models import ImageTower, timm_model
from models.towers import family_of, split_tower
from models.zero_copy import Weights, join_weights, split_weights
from models.zero_shot import Prompts, unread_words, zero_shot_head

BOUNDARIES = 2
"""Goes up when the features at a boundary change; those cached before are not used then."""

UNLOADABLE = (
    *(RuntimeError, OSError, ValueError, LookupError, TypeError, AttributeError, ImportError),
    *(AssertionError, EOFError, StopIteration, UnpicklingError, SafetensorError),
    *(ArithmeticError, MemoryError),
)
"""What open_clip raises when a configuration or checkpoint is broken or is not one."""
OF_OTHERS = (AttributeError, TypeError, LookupError, NotImplementedError)
"""What it raises on the way to find that weights are another architecture's."""


@dataclass(frozen=True)
class Pretrained:
    """An encoder with its own preprocessing, and the text tower's classifier if prompts were given.

    `fingerprint` changes with any weight of the image tower and with the preprocessing;
    `text_fingerprint` with the text tower and its tokenizer, where there is a classifier; `assumed`
    says in lines what the files did not tell of how the weights were trained; `fingerprints` are
    those of the encoders whose embeddings are joined in it.
    """

    encoder: Encoder
    preprocess: Callable[[Image.Image], Tensor]
    fingerprint: str
    zero_shot: LinearHead | None = None
    text_fingerprint: str = ""
    assumed: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()

    @property
    def parts(self) -> tuple[Pretrained, ...]:
        """The encoders whose embeddings are joined in it; where none are, itself alone."""
        if not isinstance(self.preprocess, JoinedPreprocess):
            return (self,)
        each = zip(parts_of(self.encoder), self.preprocess.each, self.fingerprints, strict=True)
        return tuple(Pretrained(*part) for part in each)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images that the encoder takes; the largest of those joined."""
        _, heights, widths = zip(*(part.encoder.shapes[PIXELS] for part in self.parts), strict=True)
        return max(heights), max(widths)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle so that processes share the encoder's weights (models/zero_copy.py)."""
        rest = (
            self.preprocess,
            self.fingerprint,
            self.zero_shot,
            self.text_fingerprint,
            self.assumed,
            self.fingerprints,
        )
        return _pretrained, (*split_weights(self.encoder), *rest)


def _pretrained(skeleton: Encoder, weights: Weights, *rest: Any) -> Pretrained:
    encoder = join_weights(skeleton, weights)
    assert isinstance(encoder, Encoder)
    return Pretrained(encoder, *rest)


def load_pretrained(
    config: ModelConfig, prompts: Prompts | None = None, cache: Path | None = None
) -> Pretrained:
    """Load the image tower on the CPU, in float32, and make a classifier of the text tower.

    With `config.concat` these are several as one, whose classifier is the mean of theirs. No
    classifier is made without prompts; `cache` is a folder for classifiers, so that the text
    tower runs once.

    Raises:
        InputError: unknown name or tag, missing folder or file, a broken configuration, weights
            that are none, don't fit or cannot be downloaded, a tower without blocks, or a text
            tower that cannot be used.
    """
    if config.concat is None:
        return load_whole(config, prompts, cache)[0]
    return join_pretrained([load_pretrained(part, prompts, cache) for part in config.joined])


def join_pretrained(parts: Sequence[Pretrained]) -> Pretrained:
    """Make one encoder of several, whose embeddings it has side by side.

    Its classifier is the mean of theirs, where all have one.
    """
    heads = [part.zero_shot for part in parts if part.zero_shot is not None]
    whole = len(heads) == len(parts)
    return Pretrained(
        joined_encoder([part.encoder for part in parts]),
        JoinedPreprocess(tuple(part.preprocess for part in parts)),
        _digest_of(part.fingerprint for part in parts),
        join_heads(heads) if whole else None,
        _digest_of(part.text_fingerprint for part in parts) if whole else "",
        tuple(dict.fromkeys(line for part in parts for line in part.assumed)),
        tuple(part.fingerprint for part in parts),
    )


def load_whole(
    config: ModelConfig, prompts: Prompts | None = None, cache: Path | None = None
) -> tuple[Pretrained, open_clip.CLIP | ImageTower]:
    """Load an encoder as `load_pretrained` does, and the model whose image tower it is.

    Both share their weights.
    """
    if prompts is not None and not config.reads_text:
        raise InputError(f"model.name: {config.name} has no text tower, which zero_shot needs")
    try:
        with quietly():
            model, preprocess, assumed = _found(config)
    except InputError:
        raise
    except UNLOADABLE as error:
        where = config.name if config.pretrained is None else f"{config.name}, {config.pretrained}"
        if config.image_size is not None:
            where += f", with model.image_size: {config.image_size}"
        reason = one_line(error, 400) or type(error).__name__
        raise InputError(f"model: cannot load {where}: {reason}") from error
    fingerprint = _fingerprint(model.visual)
    model.float()
    zero_shot, texts = None, ""
    if prompts is not None:
        name = open_clip_name(config.name)
        try:
            with quietly():
                zero_shot = zero_shot_head(model, name, prompts, cache)
                texts = _text_fingerprint(model, name, prompts)
                assumed += unread_words(model, name, prompts)
        except UNLOADABLE as error:
            raise InputError(
                f"model: the text tower or tokenizer of {config.name} cannot be used, which "
                f"zero_shot needs ({one_line(error, 300)})"
            ) from error
    encoder = split_tower(model.visual)
    found = Pretrained(encoder, preprocess, fingerprint, zero_shot, texts, tuple(assumed))
    return found, model


def _found(config: ModelConfig) -> tuple[open_clip.CLIP | ImageTower, Any, list[str]]:
    """Return what `_created` does, of timm's models too."""
    if config.name.startswith(TIMM):
        return timm_model(config)
    name = open_clip_name(config.name)
    tag = None if name.startswith(LOCAL_DIR) else _checked_tag(name, config.pretrained)
    return _created(name, tag, config.image_size)


def _created(name: str, tag: str | None, size: int | None) -> tuple[open_clip.CLIP, Any, list[str]]:
    """Return a model with its weights, its preprocessing, and what is assumed about it.

    Whatever can be wrong is found before weights are downloaded, or memory is used for them.
    """
    assumed: list[str] = []
    if tag is None:
        folder = Path(name.removeprefix(LOCAL_DIR))
        assumed = check_config(folder)
        found = weights_in(folder)
        _check_architecture(name, found.stat().st_size)
        with readable(found) as (path, keys):
            if path != found:
                raise ValueError(f"{found.name} is no plain state_dict()")
            model, preprocess = _filled(name, {"force_image_size": size}, keys)
    elif open_clip.is_pretrained_cfg(name, tag):
        _check_architecture(name)
        _download(name, tag)
        model, preprocess = _filled(
            name, {"pretrained": tag, "force_image_size": size, **options_of_tag(name, tag)}
        )
    else:
        options, assumed = options_of_file(name)
        _check_architecture(name)
        with readable(Path(tag)) as (path, keys):
            model, preprocess = _filled(
                name, {"pretrained": str(path), "force_image_size": size, **options}, keys
            )
    check_finite(model.state_dict())
    return model, preprocess, assumed


def _download(name: str, tag: str) -> None:
    """Have the weights of a tag in open_clip's cache.

    Raises:
        InputError: they cannot be downloaded.
    """
    try:
        open_clip.factory.download_pretrained(open_clip.get_pretrained_cfg(name, tag))
    except Exception as error:  # of any of the libraries that talk to a network
        raise InputError(
            f"model: the weights of {name}, {tag} cannot be downloaded ({one_line(error, 120)}); a "
            f"file of them is taken as well: --model {name}:FILE, or model.pretrained"
        ) from error


def _check_architecture(name: str, bytes_of_weights: int | None = None) -> None:
    """Build a model without memory for weights, and refuse one that cannot be right.

    Raises:
        InputError: the image tower is of no known family.
        ValueError: it has more weights than its file has bytes.
    """
    with torch.device("meta"):
        skeleton = open_clip.create_model(
            name, load_weights=False, pretrained_text=False, device="meta"
        )
    family_of(skeleton.visual)
    weights = sum(weight.numel() for weight in skeleton.parameters())
    if bytes_of_weights is not None and weights > bytes_of_weights:
        raise ValueError(
            f"{CONFIG} describes {weights} weights, and the file of weights has only "
            f"{bytes_of_weights} bytes"
        )


def _filled(name: str, options: dict[str, Any], keys: str = "") -> Any:
    try:
        return open_clip.create_model_from_pretrained(name, **options)
    except UNLOADABLE as error:
        reason = one_line(error, 150) or type(error).__name__
        if keys and isinstance(error, OF_OTHERS):
            reason = f"its weights are not those of a {name}"
        raise ValueError(f"{reason}{keys}" if keys else one_line(error, 300)) from error


@contextmanager
def quietly() -> Iterator[None]:
    """Keep libraries' warnings off the terminal; what they raise is reported in a line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def open_clip_name(name: str) -> str:
    """Write a model's name as open_clip takes it; raises InputError if there is no such model."""
    folder = hub_folder(name) if name.startswith(HUB) else local_folder(name)
    if folder is None:
        return listed_name(name)
    return f"{LOCAL_DIR}{folder}"


def _checked_tag(name: str, tag: str | None) -> str:
    tags = open_clip.list_pretrained_tags_by_model(name)
    allowed = f"allowed: a checkpoint's path, or {', '.join(tags) or 'no tags known'}"
    if tag is None:
        raise InputError(f"model.pretrained: {name} needs weights; {allowed}")
    if tag.lower().replace("-", "_") in {t.lower() for t in tags}:
        return tag
    file = expanded(tag, "model.pretrained")
    if not file.is_file():
        hint = did_you_mean(tag, tags)
        raise InputError(
            f"model.pretrained: {tag!r} is neither a file nor a tag of {name}; {hint}{allowed}"
        )
    return str(file)


def _digest_of(fingerprints: Iterable[str]) -> str:
    """SHA-256 over those of encoders, in the order in which they are joined."""
    return hashlib.sha256("\n".join(["side by side", *fingerprints]).encode()).hexdigest()


def _fingerprint(tower: torch.nn.Module) -> str:
    """SHA-256 over the tower's weights, its modules' settings and its preprocessing."""
    digest = hashlib.sha256(f"{BOUNDARIES} {type(tower).__name__}".encode())
    digest.update(json.dumps(tower.preprocess_cfg, sort_keys=True, default=str).encode())
    # Activations, pooling and the number of attention heads leave no trace in the weights.
    digest.update(repr(tower).encode())
    for name, module in tower.named_modules():
        digest.update(_settings(name, module))
    for key, weight in sorted(tower.state_dict().items()):
        digest.update(_content(key, weight))
    return digest.hexdigest()


def _text_fingerprint(model: torch.nn.Module, name: str, prompts: Prompts) -> str:
    """SHA-256 over all of a model but its image tower, and what its tokenizer makes of a text."""
    tokenizer = open_clip.get_tokenizer(name, context_length=model.context_length)
    texts = [text for w in prompts.words for text in ([w] if isinstance(w, str) else w)]
    digest = hashlib.sha256(_content("tokens", tokenizer(texts)))
    for path, module in model.named_modules():
        if path.split(".")[0] != "visual":
            digest.update(type(module).__name__.encode() + _settings(path, module))
    for key, weight in sorted({**dict(model.named_buffers()), **model.state_dict()}.items()):
        if not key.startswith("visual."):  # a mask is a buffer, and no state
            digest.update(_content(key, weight))
    return digest.hexdigest()


def _settings(name: str, module: torch.nn.Module) -> bytes:
    settings = {
        key: value
        for key, value in vars(module).items()
        if isinstance(value, bool | int | float | str) and key != "training"
    }
    return f"{name} {sorted(settings.items())}".encode()


def _content(key: str, weight: Tensor) -> bytes:
    described = f"{key} {weight.dtype} {tuple(weight.shape)}".encode()
    return described + weight.detach().contiguous().numpy().tobytes()
