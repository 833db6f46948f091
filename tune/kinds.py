"""Search spaces fitted to the kinds of layer that an encoder has."""

from __future__ import annotations

from typing import Any

from errors import InputError
from models.encoder import Encoder
from models.recipe import Recipe
from models.selection import select
from search_spaces import Experiment
from search_spaces.schema import OF_DEFAULT, MethodConfig

ANYWHERE = {"embed", "proj"}
"""Kinds that lie below and above the blocks, if the encoder has them."""


def fitted(experiment: Experiment, encoder: Encoder) -> tuple[Experiment, list[str]]:
    """Leave out the choices of `kinds` that an encoder's blocks cannot train; tell what is left.

    One search space then serves transformers and convolutional networks. A value stays if the
    blocks have every kind that it names, and each value of `blocks` holds some of them. A method
    that has no such value is left as it is, and refused later.
    """
    held = {
        kind
        for index in range(1, encoder.depth + 1)
        for _, kind, _ in encoder.group(index).parameters_by_kind()
    } | ANYWHERE
    changed: dict[str, MethodConfig | None] = {}
    lines = []
    for name, method in experiment.methods.items():
        spec = method.space.get("kinds")
        choice = spec if isinstance(spec, dict) else {}
        values = choice.get("choice")
        if not isinstance(values, list | tuple):
            continue
        blocks = method.parsed.reachable("blocks")
        usable = [
            value
            for value in values
            if held.issuperset(value.split("+")) and _trainable(encoder, blocks, value)
        ]
        if usable and len(usable) < len(values):
            changed[name] = _with_kinds(method, choice | {"choice": usable})
            companion = experiment.methods.get(f"{name}{OF_DEFAULT}")
            if companion and companion.space == method.parsed.first():
                changed[f"{name}{OF_DEFAULT}"] = None  # made anew from what is left
            lines.append(f"{name} chooses among kinds {', '.join(usable)}, which the encoder has")
    if not changed:
        return experiment, []
    tree = experiment.resolved()
    for name, method_or_none in changed.items():
        if method_or_none is None:
            del tree["methods"][name]
        else:
            tree["methods"][name] = method_or_none.model_dump(mode="json")
    return Experiment.model_validate(tree), lines


def _trainable(encoder: Encoder, blocks: tuple[Any, ...], kinds: str) -> bool:
    try:
        for value in blocks:
            select(Recipe(blocks=value, kinds=kinds), encoder)
    except InputError:
        return False
    return True


def _with_kinds(method: MethodConfig, kinds: dict[str, Any]) -> MethodConfig:
    default = {
        name: value
        for name, value in method.default.items()
        if name != "kinds" or value in kinds["choice"]
    }
    own = {"space": {**method.space, "kinds": kinds}, "default": default}
    return MethodConfig.model_validate(method.model_dump() | own)
