"""The schema by which editors check search spaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from search_spaces.extending import READY
from search_spaces.json_schema import FILE, written
from tests.search_spaces.written import SMALL
from yaml_files import read_yaml

SCHEMA = json.loads(FILE.read_text())


def wrong(tree: dict[str, Any]) -> list[str]:
    return [error.json_path for error in Draft202012Validator(SCHEMA).iter_errors(tree)]


def space(text: str) -> dict[str, Any]:
    return {"methods": {"llrd": {"space": read_yaml(text, "space")}}}


def test_the_file_is_what_its_module_writes() -> None:
    """Else: python -m search_spaces.json_schema."""
    assert FILE.read_text() == written()
    Draft202012Validator.check_schema(SCHEMA)


@pytest.mark.parametrize("path", sorted(READY.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_ready_space_is_of_it_and_names_it(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")
    assert wrong(read_yaml(text, path.name)) == []


@pytest.mark.parametrize(
    "text",
    [
        "blocks: 11",
        "blocks: {choice: [11, 11-7, all]}",
        "lr: {quniform: [0.1, 1.0, 0.1]}",
        "batch_size: {lograndint: [8, 64]}",
        "weight_decay: [1e-3, 1e-2]",
        "weight_decay: {bank: [1e-3]}",
        "llrd_decay: {uniform: [0.5, 1.0], when: {blocks: 11-7}, otherwise: 1.0}",
    ],
)
def test_what_loading_takes_is_of_it(text: str) -> None:
    assert wrong(space(text)) == []


@pytest.mark.parametrize(
    "tree",
    [
        {"serach": {}},
        {"search": {"trails": 3}},
        {"search": {"asha": {"rung": 3}}},
        {"search": {"scheduler": "fifo"}},
        {"data": {"source": "folder:"}},
        {"extends": 3},
        {"methods": {"llrd": {"spaces": {}}}},
        space("blocs: 11"),
        space("lr: {unifrom: [1, 2]}"),
        space("lr: {uniform: [1, 2, 3]}"),
        space("lr: {uniform: [1, 2], when: {blocks: 11}}"),
        space("lr: 0"),
        space("kinds: {uniform: [1, 2]}"),
        space("batch_size: {randint: [1.5, 2]}"),
        space("lr: {bank: [1, 2]}"),
    ],
)
def test_mistakes_are_seen(tree: dict[str, Any]) -> None:
    assert wrong(SMALL) == []
    assert wrong(tree)
