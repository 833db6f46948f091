"""The document of the journal's events, made from their docstrings.

    python -m records.events_document     writes docs/events.md

It says what each line of `events.jsonl` may hold.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from docstrings import attributes, summary
from files import replacing
from records.encoding import keys
from records.events import Event, TrialReport, TrialReported

FILE = Path(__file__).resolve().parents[1] / "docs" / "events.md"
HEAD = """# `events.jsonl`

*Made from the docstrings of `records/events.py` by `python -m records.events_document`.*

The journal of a run holds one JSON object a line, in the order of events. The run only appends to
it, and flushes each line before it takes effect; all but reports, pauses and promotions are forced
to the disk. A resumed run replays it and goes on in it. A later event about the same thing
overrules an earlier one. A last line that a crash cut off is dropped.

Every event has `event`, its name, and `time`, in seconds since 1970. Numbers that are not finite
are written as `null`. Words are those of the [glossary](architecture.md#glossary).
"""


def meanings(kind: type[Event]) -> dict[str, str]:
    """Return what each key of an event's line means, but for those that every event has."""
    said = attributes(kind)
    if kind is TrialReported:
        said |= attributes(TrialReport)
    common = {field.name for field in fields(Event)}
    return {key: said[key] for key in keys(kind) if key not in common}  # type: ignore[arg-type]


def written() -> str:
    """Return the text of the document, the same at every call."""
    return "\n".join([HEAD, *map(_section, Event.kinds.values())])


def _section(kind: type[Event]) -> str:
    rows = [f"| `{key}` | {said.rstrip('.')} |" for key, said in meanings(kind).items()]
    return (
        "\n".join(
            [
                f"## `{kind.name}`\n",
                f"{summary(kind)}\n",
                "| field | what it is |",
                "|---|---|",
                *rows,
            ]
        )
        + "\n"
    )


if __name__ == "__main__":
    with replacing(FILE) as place:
        place.write_text(written(), encoding="utf-8")
