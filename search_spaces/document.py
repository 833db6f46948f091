"""The document of search spaces: every key and every setting, made from the schema.

    python -m search_spaces.document     writes docs/search_space.md

It says of a key what `run_search.py --help` and the JSON schema say.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_origin

from pydantic import BaseModel

from docstrings import summary
from files import replacing
from models.recipe import Settings
from models.solvers import SOLVERS
from search_spaces.extending import EXTENDS
from search_spaces.json_schema import Schema, json_schema, values
from search_spaces.keys import held_section
from search_spaces.parsing import BANKS, DISTRIBUTIONS
from search_spaces.schedulers import sections
from search_spaces.schema import MOST, Experiment, SearchConfig

FILE = Path(__file__).resolve().parents[1] / "docs" / "search_space.md"
HEAD = """# Search spaces: every key

*Made from the schema by `python -m search_spaces.document`.*

A search space is a YAML file that says what to search, on what data. A mistake in it is one line:
the file, the key, what is wrong, and what is allowed. `--set KEY=VALUE` sets a key for one run, and
a run writes all keys to its `experiment.yaml`. Editors that know JSON schemas complete and check a
file that begins with `# yaml-language-server: $schema=search_spaces/schema.json` (the path from the
file). Words are those of the [glossary](architecture.md#glossary), and [the cookbook](cookbook.md)
has examples.
"""
WHOLE = """## The whole file

A file may extend another: what it names replaces what stands there, a value, a list or a method's
setting as a whole.
"""
SPACE = """## `methods.NAME.space`

The settings of one training, each with a value or a distribution. A setting that is not named has
its default. The solver decides which ones count; to search one that it does not use is a mistake.
"""
FORMS = """## Values, distributions and banks

| written | what a trial has |
|---|---|
| `lr: 1e-3` | this value |
"""
OWN = {"name": "the file's", EXTENDS: "none"}
"""The defaults of keys that loading knows of, and the schema does not."""
EXPLAINED = {
    "choice": (
        "kinds: {choice: [ln, attn+mlp]}",
        "one of the list; of `kinds`, those that the encoder has",
    ),
    "bank": (
        "weight_decay: {bank: [1e-3, 1e-2]}",
        "all of them at once, a head for each; validation chooses one, or the mean of `top_k`. "
        f"For {', '.join(f'`{name}`' for name in BANKS)} with `blocks: none` only",
    ),
    "uniform": ("llrd_decay: {uniform: [0.5, 1.0]}", "a number from low to high"),
    "loguniform": ("lr: {loguniform: [1e-5, 1e-2]}", "the same, as likely in each power of ten"),
    "quniform": ("warmup: {quniform: [0, 0.2, 0.05]}", "a number from low to high in steps"),
    "randint": ("views: {randint: [0, 3]}", "a whole number from low to high - 1"),
    "lograndint": (
        "batch_size: {lograndint: [16, 129]}",
        "the same, as likely in each power of ten",
    ),
}
CONDITION = """
A distribution may hold under a condition. Elsewhere the setting has another value:

    llrd_decay: {uniform: [0.5, 1.0], when: {blocks: ["11-7", "11-9"]}, otherwise: 1.0}

The setting in `when` stands above, and its values are among those that it may have. A method's
`default` names values for settings that are searched. The first trial of each cell has them, and
the middle of its distribution for each setting that `default` leaves out: the first of a choice.
"""


def written() -> str:
    """Return the text of the document, the same at every call."""
    schema = json_schema()
    parts = [HEAD, WHOLE + _table(_top(schema))]
    for name, field in Experiment.model_fields.items():
        if (held := held_section(field.annotation)) is not None:
            title = f"{name}.NAME" if get_origin(field.annotation) is dict else name
            rows = [row for row in _rows(held, schema, "") if not row.startswith("| `space` ")]
            parts.append(f"## `{title}`\n\n{summary(held)}\n{_table(rows)}")
    parts += [SPACE + _settings(), _solving(), _forms()]
    return "\n".join(parts)


def _table(rows: list[str]) -> str:
    head = ["", "| key | default | allowed | what it is |", "|---|---|---|---|"]
    return "\n".join([*head, *rows, ""])


def _top(schema: Schema) -> list[str]:
    """Return the rows of the keys that hold values."""
    rows = []
    for name, rule in schema["properties"].items():
        field = Experiment.model_fields.get(name)
        if field is None or held_section(field.annotation) is None:
            rows.append(_row(name, rule, OWN.get(name)))
    return rows


def _rows(model: type[BaseModel], schema: Schema, prefix: str) -> Iterator[str]:
    """Yield the rows of a section's keys, and of those of the sections in it."""
    rules = schema["$defs"][model.__name__]["properties"]
    for name, field in model.model_fields.items():
        inner = held_section(field.annotation)
        if inner is None:
            yield _row(f"{prefix}{name}", rules[name])
        else:
            below = f"{name}.NAME" if get_origin(field.annotation) is dict else name
            yield from _rows(inner, schema, f"{prefix}{below}.")
    if model is SearchConfig:
        for section in sections():
            for name, rule in rules[section]["properties"].items():
                yield _row(f"{prefix}{section}.{name}", rule)


def _row(key: str, rule: Schema, default: str | None = None) -> str:
    default = default or (f"`{_plain(rule['default'])}`" if "default" in rule else "needed")
    return f"| `{key}` | {default} | {allowed(rule)} | {rule.get('description', '')} |"


def _plain(value: Any) -> str:
    """Write a default as YAML takes it."""
    return json.dumps(value, ensure_ascii=False).strip('"')


def allowed(rule: Schema) -> str:
    """Say in words what values a rule of the schema allows."""
    if "anyOf" in rule:
        kinds = dict.fromkeys(map(allowed, rule["anyOf"]))
        if "number" in kinds:
            kinds.pop("whole number", None)
        return " or ".join(kinds)
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    if isinstance(rule["type"], list):
        return " or ".join(allowed(rule | {"type": kind}) for kind in rule["type"])
    if rule["type"] == "array":
        items = rule.get("items") or rule["prefixItems"][0]
        count = rule.get("minItems") if "prefixItems" in rule else ""
        return f"list of {count or ''} {_many(allowed(items))}".replace("  ", " ")
    if rule["type"] in ("integer", "number"):
        return _number(rule)
    path = rule.get("format") == "path"
    names = {"boolean": "`true`, `false`", "null": "`null`", "object": "settings and values"}
    return names.get(rule["type"], "path" if path else "text")


def _many(kind: str) -> str:
    """Put what a list holds into the plural."""
    for one in ("whole number", "number", "text"):
        if kind.startswith(one):
            return kind.replace(one, f"{one}s", 1)
    return kind


def _number(rule: Schema) -> str:
    """Say which numbers a rule allows, without a limit that nobody reaches."""
    kind = "whole number" if rule["type"] == "integer" else "number"
    least, above = rule.get("minimum"), rule.get("exclusiveMinimum")
    most, below = rule.get("maximum", MOST), rule.get("exclusiveMaximum")
    if below is not None and rule["type"] == "integer":
        most, below = below - 1, None
    low = f" above {above}" if least is None and above is not None else ""
    low = low if least is None else f" from {least}"
    high = (
        ""
        if most >= MOST
        else (f", at most {most:.12g}" if above is not None else f" to {most:.12g}")
    )
    if below is not None:
        high = f" and below {below}" if above is not None else f" to below {below}"
    return f"{kind}{low}{high}"


def _settings() -> str:
    rows = ["", "| setting | default | allowed | what it is | solver |", "|---|---|---|---|---|"]
    for name, rule in values().items():
        default = Settings.model_fields[name].get_default()
        one = default[0] if isinstance(default, tuple) else default
        users = [f"`{solver.name}`" for solver in SOLVERS.values() if name in solver.settings]
        row = _row(name, rule | {"default": one})
        rows.append(f"{row} {', '.join(users) or 'all'} |")
    return "\n".join([*rows, ""])


def _solving() -> str:
    """Return what the docstring of the settings says of them together."""
    return inspect.cleandoc(Settings.__doc__ or "").partition("\n\n")[2] + "\n"


def _forms() -> str:
    rows = [f"| `{EXPLAINED[kind][0]}` | {EXPLAINED[kind][1]} |" for kind in DISTRIBUTIONS]
    return FORMS + "\n".join([*rows, CONDITION])


if __name__ == "__main__":
    with replacing(FILE) as place:
        place.write_text(written(), encoding="utf-8")
