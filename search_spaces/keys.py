"""The keys of a search space, with their defaults and what they mean, from the schema itself."""

from __future__ import annotations

import inspect
import json
import textwrap
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from docstrings import attributes
from models.recipe import Settings
from search_spaces.schedulers import SETTINGS
from search_spaces.schema import Experiment, SearchConfig

WIDTH, MEANINGS = 98, 42  # columns: of a line, and where what a key means begins
WIDEST = 60  # characters of a default; longer ones are named by their number of entries


def described_keys() -> Iterator[str]:
    """Yield each dotted key, its default and what it means, in lines to print below each other."""
    yield from _keys(Experiment, "")
    for name in Settings.model_fields:
        yield _line(Settings, name, "methods.NAME.space.")


def _keys(model: type[BaseModel], prefix: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        inner = held_section(field.annotation)
        if inner is None:
            yield _line(model, name, prefix)
        else:
            below = f"{name}.NAME" if get_origin(field.annotation) is dict else name
            yield from _keys(inner, f"{prefix}{below}.")
    if model is SearchConfig:
        for section, settings in SETTINGS.items():
            yield from _keys(settings, f"{prefix}{section}.")


def held_section(annotation: Any) -> type[BaseModel] | None:
    """Return the section that a field holds, or holds by name; None if it holds a value."""
    held = get_args(annotation)[1] if get_origin(annotation) is dict else annotation
    return held if inspect.isclass(held) and issubclass(held, BaseModel) else None


def _line(model: type[BaseModel], name: str, prefix: str) -> str:
    field = model.model_fields[name]
    value = "" if field.is_required() else f"={_plain(field.get_default())}"
    notes = [meaning(model, name)]
    if get_origin(field.annotation) is Literal:
        notes.append(f"one of {', '.join(get_args(field.annotation))}")
    if field.is_required():
        notes.append("needed")
    line = f"{f'{prefix}{name}{value}':<{MEANINGS - 2}}  {'; '.join(filter(None, notes))}"
    return textwrap.fill(line.rstrip(), WIDTH, subsequent_indent=" " * MEANINGS)


def meaning(model: type[BaseModel], name: str) -> str:
    """Return what a key of a section means, as its field or the section's docstring says."""
    said = model.model_fields[name].description or attributes(model).get(name, "")
    return said.replace("`", "").rstrip(".")


def _plain(value: Any) -> str:
    """Write a default as `--set` takes it."""
    if value is PydanticUndefined:
        return "{}"
    text = json.dumps(value, default=str).strip('"')
    return text if len(text) <= WIDEST else f"[{len(value)} entries]"
