"""Formatting: configurations and numbers, short enough for a table and exact enough to rerun."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from partitions import Partition, Shots
from records import Kind


def describe(config: Mapping[str, Any], kind: Kind) -> str:
    """Describe a recipe's settings in one line; keys that it does not know are left out.

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
    solver, known = _SOLVERS.get(str(config.get("solver")), ("", _SETTINGS))
    trained = f"linear probe{solver}" if kind == "probe" else _layers(config)
    settings = [say(config[key]) for key, say in known.items() if config.get(key) is not None]
    return ", ".join(part for part in (trained, *settings) if part)


def span(values: Iterable[float], show: Callable[[float], str]) -> str:
    """Write the range of some values, `40 to 180`, or their one common value."""
    low, high = show(min(values := list(values))), show(max(values))
    return low if low == high else f"{low} to {high}"


def listed(words: Sequence[str]) -> str:
    """Write an enumeration: `60, 70 and 80`."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def amounts(partitions: Sequence[Partition]) -> str:
    """Write an enumeration of partitions: `1, 2 and 4 shots and 10 and 30%`."""
    shots = [f"{p.number}" for p in partitions if isinstance(p, Shots)]
    percents = [f"{p:g}" for p in partitions if not isinstance(p, Shots)]
    parts = [f"{listed(shots)} shot{'' if shots == ['1'] else 's'}"] if shots else []
    return " and ".join([*parts, *([f"{listed(percents)}%"] if percents else [])])


def of_blocks(blocks: str) -> str:
    """Write which blocks are trained: `blocks 11-7`, `the last 5 blocks`, `all blocks`."""
    if count := blocks.partition("last ")[2]:
        return "the last block" if count == "1" else f"the last {count} blocks"
    numbered = f"block{'s' * ('-' in blocks)} {blocks}"
    return {"all": "all blocks", "final": "the final layers"}.get(blocks, numbered)


def _layers(config: Mapping[str, Any]) -> str:
    where = of_blocks(str(config["blocks"]))
    return f"{config['kinds']} of {where}" if config.get("kinds") else where


def _rate(value: Any) -> str:
    """Write a learning rate: 3e-4, 1e-2, 0.1."""
    return _plain(value, scientific_first=True)


def _plain(value: Any, *, scientific_first: bool = False) -> str:
    """Write a number with two digits in its shorter form: 0.75, 0.01, 1e-4, 64.

    Of two forms of one length, it is the plain one unless `scientific_first`.
    """
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


def _class_weights(value: Any) -> str:
    return "balanced classes" if value == "balanced" else ""


def _top_k(value: Any) -> str:
    return f"mean of the {value} best" if value > 1 else ""


_SETTINGS: dict[str, Callable[[Any], str]] = {
    "lr": lambda value: f"lr {_rate(value)}",
    "head_lr": lambda value: f"head lr {_rate(value)}",
    "llrd_decay": lambda value: f"decay {_plain(value)}",
    "weight_decay": lambda value: f"wd {_plain(value)}",
    "lora_rank": lambda value: f"LoRA of rank {value}" if value else "",
    "pull_to_start": lambda value: f"pull to start {_plain(value)}" if value else "",
    "batch_size": lambda value: f"batch {_plain(value)}",
    "warmup": lambda value: f"warmup {_plain(100.0 * value)}%",
    "label_smoothing": lambda value: f"label smoothing {_plain(value)}",
    "views": _views,
    "head_start": "head start {}".format,
    "class_weights": _class_weights,
}
_SETTINGS_AT_OPTIMUM: dict[str, Callable[[Any], str]] = {
    "weight_decay": lambda value: f"L2 {_plain(value)}",
    "anchor": lambda value: f"pulled to {_plain(value)} of the text head" if value else "",
    "label_smoothing": _SETTINGS["label_smoothing"],
    "class_weights": _class_weights,
    "top_k": _top_k,
    "views": _views,
}
_SETTINGS_OF_GDA: dict[str, Callable[[Any], str]] = {
    "gda": lambda value: f"{_plain(value)} of it beside the text head",
    "top_k": _top_k,
    "views": _views,
}
_SOLVERS = {
    "lbfgs": (" (L-BFGS)", _SETTINGS_AT_OPTIMUM),
    "gda": (" (Gaussian discriminant analysis)", _SETTINGS_OF_GDA),
}
"""Solvers that a description names: they find the optimum, without rates, batches or a start."""
