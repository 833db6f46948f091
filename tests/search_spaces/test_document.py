"""docs/search_space.md says what a search space may hold: every key and every setting."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from search_spaces.document import EXPLAINED, FILE, allowed, written
from search_spaces.keys import described_keys
from search_spaces.parsing import parse_space
from yaml_files import read_yaml


def test_the_document_is_what_its_module_writes() -> None:
    """Else: python -m search_spaces.document."""
    assert FILE.read_text(encoding="utf-8") == written()


def test_it_has_a_row_for_every_key_that_the_help_lists() -> None:
    rows = written()
    for line in described_keys():
        key = line.split()[0].partition("=")[0]
        inside = [
            key.removeprefix(f"{section}.")
            for section in ("methods.NAME", "methods.NAME.space", "models.NAME")
        ]
        names = {key, key.partition(".")[2], *inside}
        assert any(f"| `{name}` |" in rows for name in names) or key == "methods.NAME.space", key


class Rules(BaseModel):
    share: float = Field(0.5, gt=0, lt=1)
    part: float = Field(0.5, gt=0, le=1)
    rest: float = Field(0.5, ge=0, lt=1)
    flip: float = Field(0.5, ge=0, le=1)
    seed: int = Field(0, ge=0, lt=2**31)
    count: int | None = Field(None, ge=1)
    truth: bool = True
    mixed: tuple[int | float, ...] = ()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("share", "number above 0 and below 1"),
        ("part", "number above 0, at most 1"),
        ("rest", "number from 0 to below 1"),
        ("flip", "number from 0 to 1"),
        ("seed", "whole number from 0 to 2147483647"),
        ("count", "whole number from 1 or `null`"),
        ("truth", "`true`, `false`"),
        ("mixed", "list of numbers"),
    ],
)
def test_what_is_allowed_is_said_in_words(name: str, words: str) -> None:
    assert allowed(Rules.model_json_schema()["properties"][name]) == words


@pytest.mark.parametrize(("kind", "example"), [(k, v[0]) for k, v in EXPLAINED.items()])
def test_its_examples_are_spaces(kind: str, example: str) -> None:
    blocks: dict[str, Any] = {"blocks": "none" if kind == "bank" else "11-7"}
    parse_space(blocks | read_yaml(example, "example"), {})
