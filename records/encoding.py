"""Records as JSON.

A record is a frozen dataclass. A record inside a record is spread into it, a cell is written as
its name, and a number that is not finite is written as null, which is read as NaN. Files of before
lack the fields that are marked as `LATER`; these then have their defaults.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from types import MappingProxyType, UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from partitions import Partition, Shots, named, parsed
from records.cell import Cell

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

R = TypeVar("R", bound="DataclassInstance")
LATER = MappingProxyType({"later": True})
"""The metadata of a field that files may lack: they were written before there was such a field."""


def encode(record: DataclassInstance) -> dict[str, Any]:
    """Turn a record into what JSON can hold, in the order of its fields."""
    line: dict[str, Any] = {}
    for name in _hints(type(record)):
        value = getattr(record, name)
        line |= encode(value) if _is_record(type(value)) else {name: _plain(value)}
    return line


def check_share(name: str, value: float) -> None:
    """Raise ValueError if a number is not from 0 to 1."""
    if not 0 <= value <= 1:
        raise ValueError(f"{name}: {value} is not in 0 to 1")


def decode(kind: type[R], line: Mapping[str, Any]) -> R:
    """Turn what `encode` made back into a record.

    Raises:
        ValueError: a field is missing, is unknown or holds a value of another type.
    """
    known = keys(kind)
    needed = [key for key in known if key not in _later(kind)]
    if missing := [key for key in needed if key not in line]:
        raise ValueError(f"it has no {', '.join(missing)}")
    if unknown := sorted(line.keys() - known):
        raise ValueError(f"it has an unknown field {unknown[0]!r}")
    return _record(kind, line)


@cache
def keys(kind: type[DataclassInstance]) -> tuple[str, ...]:
    """Return the keys under which a kind of record is written, in their order."""
    found: list[str] = []
    for name, hint in _hints(kind).items():
        found += keys(hint) if _is_record(hint) else [name]
    return tuple(found)


@cache
def _hints(kind: type[DataclassInstance]) -> dict[str, Any]:
    """Return the type of each field of a record."""
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


@cache
def _later(kind: type[DataclassInstance]) -> frozenset[str]:
    """Return the fields of a record, not of those inside it, that files may lack."""
    return frozenset(field.name for field in fields(kind) if field.metadata == LATER)


def _is_record(kind: Any) -> bool:
    return isinstance(kind, type) and is_dataclass(kind)


def _plain(value: Any) -> Any:
    match value:
        case Cell():
            return str(value)
        case Shots():
            return named(value)
        case float():
            return value if math.isfinite(value) else None
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            return encode(value) if _is_record(type(value)) else value


def _record(kind: type[R], line: Mapping[str, Any]) -> R:
    found = {}
    for name, hint in _hints(kind).items():
        if name in _later(kind) and name not in line:
            continue
        try:
            found[name] = _record(hint, line) if _is_record(hint) else _value(hint, line[name])
        except TypeError as error:
            raise ValueError(f"{name}: {error}") from None
    return kind(**found)


def _value(hint: Any, value: Any) -> Any:
    """Turn a JSON value into one of the type `hint`; raises TypeError or ValueError otherwise."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint == Partition:
        return parsed(_checked(value, int | float | str))
    if origin in (Union, UnionType):
        return None if value is None else _value(arguments[0], value)
    if origin is Literal:
        if value not in arguments:
            raise TypeError(f"{value!r} is none of {', '.join(map(str, arguments))}")
        return value
    if hint is float:
        return math.nan if value is None else float(_checked(value, int | float))
    if hint is Cell:
        return Cell.parse(_checked(value, str))
    if origin is tuple:
        return tuple(_value(arguments[0], item) for item in _checked(value, list))
    if origin is list:
        if {*map(type, _checked(value, list))} - {arguments[0]}:
            raise TypeError(f"its items must be of type {arguments[0].__name__}")
        return value
    if origin is dict:
        return {key: _value(arguments[1], item) for key, item in _checked(value, dict).items()}
    if _is_record(hint):
        return decode(hint, _checked(value, dict))
    return value if hint is Any else _checked(value, hint)


def _checked(value: Any, kind: Any) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{value!r} is of the wrong type")
    return value
