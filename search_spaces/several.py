"""Several encoders of one experiment: what they may be called, and which may be joined."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from errors import did_you_mean, shown
from models.config import ModelConfig
from records import FOLDERS

OWN = ("name", "pretrained", "image_size", "precision")
"""Keys of an encoder that is none of others."""


def check_names(models: Mapping[str, ModelConfig]) -> None:
    """Raise ValueError if encoders' names cannot be those of their folders."""
    for name in models:
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", name):
            raise ValueError(f"{shown(name)}: letters, digits, . _ and - only, 64 at most")
        if name.lower() in FOLDERS:
            raise ValueError(f"{shown(name)}: a run's own folder; allowed: another name")
    if len({name.lower() for name in models}) < len(models):
        raise ValueError("two names differ by capitals alone; allowed: others")


def check_joined(models: Mapping[str, ModelConfig]) -> None:
    """Raise ValueError if an encoder's `concat` does not name others that can be joined."""
    single = [name for name, model in models.items() if model.concat is None]
    for name, model in models.items():
        if model.concat is None:
            continue
        where, allowed = f"{name}.concat", f"allowed: two or more of {', '.join(single)}"
        for part in model.concat:
            if not isinstance(part, str):
                raise ValueError(f"{where}: {shown(part)} is no name; {allowed}")
            if part in models and part not in single:
                what = "itself" if part == name else "joined of others"
                raise ValueError(f"{where}: {part} is {what}; {allowed}")
            if part not in models:
                hint = did_you_mean(part, single)
                raise ValueError(f"{where}: there is no encoder {shown(part)}; {hint}{allowed}")
        if twice := [part for part in model.concat if model.concat.count(part) > 1]:
            raise ValueError(f"{where}: {twice[0]} stands there twice; {allowed}")
        usual = ModelConfig(concat=model.concat)
        if beside := [key for key in OWN if getattr(model, key) != getattr(usual, key)]:
            raise ValueError(f"{name}.{beside[0]}: beside concat; allowed: concat alone")
        precisions = {models[str(part)].precision for part in model.concat}
        if len(precisions) > 1:
            found = " and ".join(sorted(precisions))
            raise ValueError(f"{where}: joins encoders of precision {found}; allowed: one of them")


def check_one(model: ModelConfig, trained: Sequence[str]) -> None:
    """Raise ValueError if the only encoder joins names, or joins others beside `trained` methods.

    Those methods train blocks, and joined encoders have none.
    """
    if model.concat is None:
        return
    if len(model.joined) < len(model.concat):
        raise ValueError("model.concat: names others of models; allowed: models, and it among them")
    if trained:
        raise ValueError(
            f"methods.{trained[0]}: trains blocks, and model.concat has none; allowed: methods "
            "with blocks: none"
        )


def resolved(models: Mapping[str, ModelConfig], name: str) -> ModelConfig:
    """Return one of several encoders; what it joins are the encoders themselves, for their names.

    They all have one precision, which it has too.
    """
    model = models[name]
    if model.concat is None:
        return model
    parts = tuple(models[str(part)] for part in model.concat)
    return model.model_copy(update={"concat": parts, "precision": parts[0].precision})
