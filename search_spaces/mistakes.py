"""What is wrong with a value, and what is allowed, in two short sentences instead of pydantic's."""

from __future__ import annotations

from typing import Any

from pydantic_core import ErrorDetails

from errors import one_line, shown

LONGEST = 500  # characters of the message about one mistake
_WHOLE = ("{got} is no whole number", "one such as 3")
_NUMBER = ("{got} is no number", "one such as 0.5")
_TRUTH = ("{got} is neither true nor false", "true, false")
_LIST = ("{got} is no list", "one such as [a, b]")
_SECTION = ("{got} has no keys", "keys and values")
_SENTENCES = {
    "missing": ("this key is missing", ""),
    "greater_than": ("{got} is too small", "above {gt}"),
    "greater_than_equal": ("{got} is too small", "{ge} or more"),
    "less_than": ("{got} is too large", "below {lt}"),
    "less_than_equal": ("{got} is too large", "{le} or less"),
    "finite_number": ("{got} is not finite", "other numbers"),
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_parsing_size": _WHOLE,
    "int_from_float": _WHOLE,
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "bool_type": _TRUTH,
    "bool_parsing": _TRUTH,
    "string_type": ("{got} is no text", "text; quotes make it of anything"),
    "path_type": ("{got} is no path", "text"),
    "string_pattern_mismatch": (
        "{got} is no name of a run",
        "letters, digits, '.', '_' and '-', with a letter or a digit first",
    ),
    "string_too_long": ("{got} is too long", "{max_length} characters"),
    "literal_error": ("{got} is unknown", "{expected}"),
    "tuple_type": _LIST,
    "list_type": _LIST,
    "too_short": ("{got} has too few entries", "{min_length} or more"),
    "too_long": ("{got} has too many entries", "{max_length} or fewer"),
    "model_type": _SECTION,
    "dict_type": _SECTION,
}


def explained(error: ErrorDetails) -> str:
    """Say what is wrong with a value and what is allowed, by one of a ValidationError's errors.

    Messages of the schema's own validators stay as they are.
    """
    if error["type"] not in _SENTENCES:
        message = error["msg"].removeprefix("Value error, ")
        return message if len(message) <= LONGEST else f"{message[:LONGEST]} …"
    wrong, allowed = _SENTENCES[error["type"]]
    context = {
        name: f"{rule:.12g}" if isinstance(rule, float) else rule
        for name, rule in error.get("ctx", {}).items()
    } | {"got": _shown(error["input"])}
    sentences = (wrong.format_map(context), allowed and f"Allowed: {allowed.format_map(context)}")
    return ". ".join(filter(None, sentences))


def _shown(value: Any) -> str:
    try:
        return one_line(shown(value), 80)
    except ValueError:  # of a number with thousands of digits, which Python does not write
        return "that number"
