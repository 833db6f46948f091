from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from errors import InputError
from yaml_files import CHARACTERS, NODES, read_nodes, read_yaml, text_of

GROWING = "\n".join(
    ["a0: &a0 [x]", *(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10))]
)
"""YAML of 600 bytes that stands for a billion values."""


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1E3", 1000.0), ("-2e+2", -200.0), ("1.5e3", 1500.0), ("1_0e1", 100.0)],
)
def test_exponents_are_numbers_as_in_yaml_1_2(text: str, value: float) -> None:
    assert read_yaml(f"a: {text}", "here") == {"a": value}


@pytest.mark.parametrize("text", ["11-7", "e5", "1e", "1e-x", "ln+attn", "'1e-5'", "no", "1:30"])
def test_other_words_stay_words(text: str) -> None:
    assert read_yaml(f"a: {text}", "here") == {"a": text.strip("'")}


def test_a_merged_key_may_be_replaced() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}"
    assert read_yaml(text, "here")["b"] == {"x": 1, "y": 3}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [1, 2", "line 1, column 9: not YAML: expected ',' or ']'"),
        ("a: 1\n\tb: 2", "line 2, column 1: not YAML: found character '\\t'"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not YAML: but found another document"),
        ("a: 1\nb: 2\na: 3", 'line 3, column 1: not YAML: found duplicate key "a"'),
        (
            "a: {x: 1}\na: {y: [" + "1, " * 500 + "]}",
            "line 2, column 1: not YAML: found duplicate key",
        ),
        ("a: {1: x, 1: y}", 'line 1, column 11: not YAML: found duplicate key "1"'),
        ("a: *nowhere", "line 1, column 4: not YAML: found undefined alias"),
        ("{{a: 1}: 2}", "line 1, column 2: not YAML: found unhashable key"),
        ("a: !!python/object:os.system {}", "line 1, column 4: not YAML: could not determine a"),
        (
            "a: !x%0Ay 1",
            "line 1, column 4: not YAML: could not determine a constructor for the tag",
        ),
        ("a: \x00", "not YAML: unacceptable character"),
        ("a: 2001-13-01", "not YAML: a value cannot be read (month must be in 1..12)"),
        ("a: 0b_", "not YAML: a value cannot be read (invalid literal"),
        ("a: !!int ''", "not YAML: a value cannot be read"),
        ("a: !!bool x", "not YAML: a value cannot be read"),
        ("a: !!timestamp x", "line 1, column 4: not YAML: failed to construct timestamp"),
        ("a: " + "1" * 5000, "line 1, column 4: an integer of more than 20 digits"),
        ("a: 0x" + "f" * 6000, "line 1, column 4: an integer of more than 20 digits"),
        ("a: !!int '" + "1" * 30 + "'", "line 1, column 4: an integer of more than 20 digits"),
        ("[" * 30_000, "line 1, column 42: more than 40 levels deep"),
        ("- " * 30_000, "line 1, column 81: more than 40 levels deep"),
        ("? " * 30_000, "line 1, column 81: more than 40 levels deep"),
        ("{a: " * 30_000, "line 1, column 165: more than 40 levels deep"),
        ("a: &a [*a]", "line 1, column 8: *a holds itself"),
        ("a: &a {<<: *a}", "line 1, column 12: *a holds itself"),
        ("a: [" + "1, " * 20_000 + "]", "line 1, column 29996: more than 10000 keys and values"),
        ("".join(f"{i}: 1\n" for i in range(20_000)), "line 5000, column 7: more than 10000 keys"),
        ("a: " + "x" * 2_000_000, "more than 1000000 characters"),
        (GROWING, "line 5, column 25: more than 10000 keys and values, with what aliases repeat"),
    ],
)
def test_what_is_not_yaml_is_one_line_with_its_place(text: str, message: str) -> None:
    began = time.process_time()
    with pytest.raises(InputError) as error:
        read_yaml(text, "here")
    assert time.process_time() - began < 5  # what grows would take minutes
    line = str(error.value)
    assert line.startswith(f"here: {message}")
    assert len(line.splitlines()) == 1
    assert len(line) < 300


def test_nodes_keep_text_and_lines() -> None:
    ((key, value),) = read_nodes("\n01: 1_0\n", "here").value
    words: tuple[Any, ...] = (key.value, key.start_mark.line, value.value)
    assert words == ("01", 1, "1_0")
    assert read_nodes("", "here") is None


def test_nodes_have_the_same_limits() -> None:
    with pytest.raises(InputError, match=r"here: line \d+, column \d+: more than 10000 keys"):
        read_nodes(GROWING, "here")
    text = "".join(f"name {i}: {'9' * 30}\n" for i in range(6000))
    assert len(read_nodes(text, "here", 20_000).value) == 6000


def test_aliases_of_a_few_values_are_welcome() -> None:
    text = "a: &a [1, 2]\nb: &b {x: *a, y: *a}\nc: [*a, *b]\nd: 18446744073709551615"
    assert read_yaml(text, "here")["c"] == [[1, 2], {"x": [1, 2], "y": [1, 2]}]


def test_no_more_is_read_of_a_file_than_shows_that_it_is_too_long() -> None:
    assert len(text_of(Path("/dev/zero"))) == NODES * CHARACTERS + 1
