"""Class names in words, or descriptions, for the prompts of a zero-shot classifier."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from errors import InputError, did_you_mean, shown
from files import expanded, reason
from yaml_files import read_nodes, text_of

Words = str | tuple[str, ...]
"""What prompts call a class: words that fill the templates, or descriptions, which stand alone."""
LONGEST = 1000  # characters of a description; text towers read some 77 tokens
NODES = 200_000  # in a file of names, which may be those of ImageNet-21k

_NUMBERING = re.compile(r"\A(?:\d+\.|n\d{8} )+(?=[^\W\d])")
"""`001.` (CUB-200, Caltech-256) or a WordNet id, `n02085620-` (Stanford Dogs), before the name."""

_HUMP = re.compile(r"(?<=[a-z]{2})(?=[A-Z])")
"""The place between the words of `goldenRetriever`; iPhone and McIntosh have none."""

_NUMBER = re.compile(r"[+-]?\d+(\.\d*)?", re.ASCII)
_MISSING = frozenset(("nan", "NaN", "NA", "N/A", "None", "null", "NULL", "<NA>"))


def in_words(name: str) -> str:
    """Turn a folder's name into words: `001.Black_footed_Albatross` is "Black footed Albatross".

    Numbering is removed; underscores, hyphens and the humps of camelCase become spaces. A name
    stays as it is if nothing else would remain.
    """
    spaced = " ".join(re.sub("[_-]", " ", name).split())
    return _HUMP.sub(" ", _NUMBERING.sub("", spaced)) or name


def words_of(classes: Sequence[str], file: Path | None) -> tuple[Words, ...]:
    """Find the words of each class: those in the YAML mapping `file`, or else the cleaned name.

    A list of sentences describes a class. Names and words are text: `01: yes` needs no quotes.

    Raises:
        InputError: `file` cannot be read, is not such a mapping, or has a key that is no class.
    """
    given = {} if file is None else _read(expanded(file, "data.class_names"))
    known = set(classes)
    for name in given:
        if name not in known:
            hint = did_you_mean(name, classes)
            raise InputError(
                f"data.class_names: {file}: {shown(name)} is no class; {hint}"
                f"allowed are the {len(classes)} classes of train"
            )
    return tuple(given.get(name) or in_words(name) for name in classes)


def shared_words(classes: Sequence[str], words: Sequence[Words]) -> Iterator[str]:
    """Warn if classes share their words; capitals do not count, as CLIP lowers them.

    Nor does it count in which of Unicode's ways a letter is written, which nobody can see.
    """
    homes: dict[str, list[str]] = {}
    for name, text in zip(classes, words, strict=True):
        same = (text,) if isinstance(text, str) else tuple(sorted(text))
        seen = unicodedata.normalize("NFKC", "\n".join(same)).casefold()
        homes.setdefault(seen, []).append(name)
    if shared := [names for names in homes.values() if len(names) > 1]:
        yield (
            f"{sum(map(len, shared))} classes share their words with another, such as "
            f"{shared[0][0]!r} and {shared[0][1]!r}: zero-shot cannot tell them apart; "
            "data.class_names can name them"
        )


def doubtful_labels(classes: Sequence[str]) -> list[str]:
    """Warn of names that are no names: one number twice, missing values, several labels."""
    numbers: dict[float, list[str]] = {}
    for name in classes:
        if _NUMBER.fullmatch(name):
            numbers.setdefault(float(name), []).append(name)
    lines = []
    if twice := [names for names in numbers.values() if len(names) > 1]:
        same = " and ".join(map(repr, twice[0]))
        lines.append(f"{sum(map(len, twice))} classes are the same numbers, such as {same}")
    lines += [f"class {name!r} looks like a missing label" for name in classes if name in _MISSING]
    if joined := [name for name in classes if "|" in name or ";" in name]:
        more = f" (and {len(joined) - 1} more)" if len(joined) > 1 else ""
        lines.append(
            f"class {joined[0]!r} looks like several labels{more}; an image has one class here"
        )
    return lines


def _read(file: Path) -> dict[str, Words]:
    where = f"data.class_names: {file}"
    try:
        text = text_of(file, NODES)
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: cannot be read ({reason(error)})") from error
    tree = read_nodes(text, where, NODES)  # nodes, so that names stay as they are written
    if not isinstance(tree, MappingNode):
        raise InputError(f"{where}: expected class names and words, such as `apple_pie: apple pie`")
    words: dict[str, Words] = {}
    for key, value in tree.value:
        place = f"{where}: line {key.start_mark.line + 1}"
        found = value.value if isinstance(value, SequenceNode) else [value]
        if not isinstance(key, ScalarNode) or not all(isinstance(n, ScalarNode) for n in found):
            raise InputError(f"{place}: expected one class name and its words, or a list of them")
        if key.value in words:
            raise InputError(f"{place}: {shown(key.value)} stands twice")
        texts = tuple(_text(text, key.value, where) for text in found)
        if not texts:
            raise InputError(f"{place}: {shown(key.value)} has no words")
        words[key.value] = texts if isinstance(value, SequenceNode) else texts[0]
    return words


def _text(node: Node, name: str, where: str) -> str:
    text = " ".join(node.value.split())
    place = f"{where}: line {node.start_mark.line + 1}"
    if not text:
        raise InputError(f"{place}: {shown(name)} has no words")
    if len(text) > LONGEST:
        raise InputError(f"{place}: {shown(name)} has a text of more than {LONGEST} characters")
    return text
