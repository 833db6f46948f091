"""The JSON schema of search spaces, by which editors complete and check them.

    python -m search_spaces.json_schema     writes search_spaces/schema.json

It says what a single file may hold. What only values together can tell, loading says.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from data.sources import SOURCES
from files import replacing
from models.recipe import Settings
from search_spaces.extending import EXTENDS, READY
from search_spaces.keys import held_section, meaning
from search_spaces.parsing import BANKS, CHOICES
from search_spaces.schedulers import SETTINGS, sections
from search_spaces.schema import Experiment, MethodConfig, SearchConfig

FILE = READY / "schema.json"
Schema = dict[str, Any]

_NUMBERS = {"type": "array", "items": {"type": "number"}}
_WHOLE = {"type": "array", "items": {"type": "integer"}}
_TWO, _THREE = {"minItems": 2, "maxItems": 2}, {"minItems": 3, "maxItems": 3}
_DISTRIBUTIONS: dict[str, Schema] = {
    "uniform": _NUMBERS | _TWO | {"description": "[low, high]"},
    "loguniform": _NUMBERS | _TWO | {"description": "[low, high], low above 0"},
    "quniform": _NUMBERS | _THREE | {"description": "[low, high, step]"},
    "randint": _WHOLE | _TWO | {"description": "[low, high) of whole numbers"},
    "lograndint": _WHOLE | _TWO | {"description": "[low, high) of whole numbers, low above 0"},
}


def json_schema() -> Schema:
    """Make the schema from the sections that loading checks, and the settings of a space."""
    schema = Experiment.model_json_schema()
    definitions = schema["$defs"]
    for model in _sections(Experiment):
        of_model = schema if model is Experiment else definitions[model.__name__]
        _describe(model, of_model)
    search = definitions[SearchConfig.__name__]
    search["properties"]["scheduler"]["enum"] = list(SETTINGS)
    for name in sections():
        search["properties"][name] = _describe(SETTINGS[name], SETTINGS[name].model_json_schema())
    search["additionalProperties"] = False
    places = [f"{kind}:.+" if source.place else kind for kind, source in SOURCES.items()]
    for name in ("DataConfig", "SourceConfig"):
        definitions[name]["properties"]["source"]["pattern"] = f"^({'|'.join(places)})$"
    method = definitions[MethodConfig.__name__]["properties"]
    method["space"] = _space() | {"description": "what is fixed and what is searched"}
    method["default"]["description"] = "what the first trial of each cell runs"
    method["default"] |= {"properties": values(), "additionalProperties": False}
    methods = schema["properties"]["methods"]
    methods["additionalProperties"] = {
        "anyOf": [methods["additionalProperties"], {"type": "null"}],
        "description": "a column of the table; null leaves out one of the file that this extends",
    }
    schema["properties"][EXTENDS] = {
        "type": "string",
        "description": "the search space that this one changes: a path, or a ready one such as vit",
    }
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return schema | {"title": "Search space"}


def _sections(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        held = held_section(field.annotation)
        if held is not None:
            yield from _sections(held)


def _describe(model: type[BaseModel], schema: Schema) -> Schema:
    """Give keys their meanings; none is needed, as a file that this one extends may have it."""
    for name, field in schema.get("properties", {}).items():
        field.pop("title", None)
        if said := meaning(model, name):
            field["description"] = said
    schema.pop("required", None)
    schema["description"] = (model.__doc__ or "").splitlines()[0]
    return schema


def values() -> dict[str, Schema]:
    """Describe a single value of each setting; a bank's is one of its entries."""
    found = _describe(Settings, Settings.model_json_schema())["properties"]
    for name, value in found.items():
        entry = value.pop("items", None)
        if entry is not None:
            found[name] = entry | {"description": value["description"]}
    found["blocks"]["type"] = ["string", "integer"]
    return dict(found)


def _space() -> Schema:
    parameters = {name: _parameter(name, value) for name, value in values().items()}
    return {"type": "object", "properties": parameters, "additionalProperties": False}


def _parameter(name: str, value: Schema) -> Schema:
    """Describe what may stand for a setting: a value, a distribution, and a bank if it has one."""
    single = {key: rule for key, rule in value.items() if key not in ("description", "default")}
    choice = {"type": "array", "items": single, "minItems": 1, "maxItems": CHOICES}
    kinds = {"choice": choice} | (_DISTRIBUTIONS if single.get("type") != "string" else {})
    if name == "blocks":
        kinds = {"choice": choice}
    forms = [single, *(_distribution(kind, rule, single) for kind, rule in kinds.items())]
    if name in BANKS:
        bank = {"type": "array", "items": single, "minItems": 1}
        forms += [bank, _only({"bank": bank})]
    return {"anyOf": forms, "description": value.get("description", "")}


def _distribution(kind: str, rule: Schema, single: Schema) -> Schema:
    together = {"when": ["otherwise"], "otherwise": ["when"]}
    condition = {"type": "object", "description": "a setting above, with its values"}
    properties = {kind: rule, "when": condition, "otherwise": single}
    return _only(properties) | {"required": [kind], "dependentRequired": together}


def _only(properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def written() -> str:
    """Return the text of the file, the same at every call."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    with replacing(FILE) as place:
        place.write_text(written(), encoding="utf-8")
