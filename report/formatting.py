"""Formatting: configurations and numbers, short enough for a table and exact enough to rerun."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from records import Kind


def describe(config: Mapping[str, Any], kind: Kind) -> str:
    """Describe a configuration in one line; keys that it does not know are left out.

    Args:
        config: a recipe's settings.
        kind: what the recipe trains.

    >>> describe({"blocks": "11-7", "kinds": "ln+attn", "lr": 3e-4, "llrd_decay": 0.75}, "tuned")
    'ln+attn of blocks 11-7, lr 3e-4, decay 0.75'
    >>> describe({"blocks": "none", "head_lr": 0.01, "weight_decay": 1e-4}, "probe")
    'linear probe, head lr 1e-2, wd 1e-4'
    >>> describe({"blocks": "none", "solver": "lbfgs", "weight_decay": 1e-3}, "probe")
    'linear probe (L-BFGS), L2 1e-3'
    """
    if not config:
        return "nothing to choose"
    if kind == "zero_shot":
        return "zero-shot"
    known = _SETTINGS_LBFGS if config.get("solver") == "lbfgs" else _SETTINGS
    settings = [say(config[key]) for key, say in known.items() if config.get(key) is not None]
    return ", ".join(part for part in (_trained(config, kind), *settings) if part)


def span(values: Iterable[float], show: Callable[[float], str]) -> str:
    """Write the range of some values, `40 to 180`, or their one common value."""
    low, high = show(min(values := list(values))), show(max(values))
    return low if low == high else f"{low} to {high}"


def listed(words: Sequence[str]) -> str:
    """Write an enumeration: `60, 70 and 80`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _trained(config: Mapping[str, Any], kind: Kind) -> str:
    if kind == "probe":
        return "linear probe (L-BFGS)" if config.get("solver") == "lbfgs" else "linear probe"
    blocks = str(config["blocks"])
    if blocks == "all":
        where = "all blocks"
    else:
        where = f"blocks {blocks}" if "-" in blocks else f"block {blocks}"
    return f"{config['kinds']} of {where}" if config.get("kinds") else where


def _rate(value: Any) -> str:
    """Write a learning rate: 3e-4, 1e-2, 0.1."""
    return _shortest(value, scientific_first=True)


def _plain(value: Any) -> str:
    """Write any other number: 0.75, 0.01, 1e-4, 64."""
    return _shortest(value, scientific_first=False)


def _shortest(value: Any, *, scientific_first: bool) -> str:
    """Write a float with two digits in its shorter form; a tie goes to the preferred form."""
    if not isinstance(value, float):
        return str(value)
    rounded = float(f"{value:.1e}")
    forms = [
        np.format_float_positional(rounded, trim="-"),
        np.format_float_scientific(rounded, trim="-", exp_digits=1),
    ]
    return min(reversed(forms) if scientific_first else forms, key=len)


def _views(value: Any) -> str:
    return f"{value} augmented view{'' if value == 1 else 's'}" if value else ""


_SETTINGS: dict[str, Callable[[Any], str]] = {
    "lr": lambda value: f"lr {_rate(value)}",
    "head_lr": lambda value: f"head lr {_rate(value)}",
    "llrd_decay": lambda value: f"decay {_plain(value)}",
    "weight_decay": lambda value: f"wd {_plain(value)}",
    "batch_size": lambda value: f"batch {_plain(value)}",
    "warmup": lambda value: f"warmup {_plain(100.0 * value)}%",
    "label_smoothing": lambda value: f"label smoothing {_plain(value)}",
    "views": _views,
    "head_start": "head start {}".format,
}
# L-BFGS finds the optimum, so it has no rates, batches or start.
_SETTINGS_LBFGS: dict[str, Callable[[Any], str]] = {
    "weight_decay": lambda value: f"L2 {_plain(value)}",
    "label_smoothing": _SETTINGS["label_smoothing"],
    "views": _views,
}
