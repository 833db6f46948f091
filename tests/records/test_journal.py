from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InputError
from records.journal import Journal, read_events

values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    return [as_json(item) for item in value] if isinstance(value, list) else value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def write(path: Path, *texts: str) -> None:
    journal = Journal(path)
    for text in texts:
        journal.write("note", text=text)
    journal.close()


def texts(path: Path) -> list[str]:
    return [event["text"] for event in read_events(path)]


@settings(max_examples=50, deadline=None)
@given(events=st.lists(values, max_size=4))
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, events: list[Any]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    journal = Journal(path)
    for event in events:
        journal.write("thing", value=event)
    assert [event["value"] for event in read_events(path)] == [as_json(e) for e in events]
    assert all(event["event"] == "thing" and event["time"] > 0 for event in read_events(path))
    assert len(path.read_bytes().split(b"\n")) == len(events) + 1  # one line each
    journal.close()


def test_every_line_is_on_disk_when_write_returns(path: Path) -> None:
    journal = Journal(path)
    journal.write("note", text="first")
    assert texts(path) == ["first"]
    journal.close()


def test_nan_and_infinities_become_null_wherever_they_are(path: Path) -> None:
    journal = Journal(path)
    journal.write("note", a=math.nan, b=[1.0, -math.inf], c={"d": (math.inf, 2)})
    journal.close()
    line = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert [line[key] for key in "abc"] == [None, [1.0, None], {"d": [None, 2]}]


def test_no_file_holds_no_events(path: Path) -> None:
    assert read_events(path) == []


def test_opening_again_appends(path: Path) -> None:
    write(path, "first")
    write(path, "second")
    assert texts(path) == ["first", "second"]


def test_every_torn_last_line_is_dropped(path: Path) -> None:
    write(path, "first", "second")
    whole = path.read_bytes()
    for length in range(whole.index(b"\n") + 1, len(whole)):
        path.write_bytes(whole[:length])
        assert texts(path) == ["first"]
        write(path, "third")
        assert texts(path) == ["first", "third"]


def test_a_journal_of_half_a_line_is_empty(path: Path) -> None:
    path.write_text('{"time": 1, "ev')
    assert read_events(path) == []
    write(path, "first")
    assert texts(path) == ["first"]


@pytest.mark.parametrize("line", [b'{"time": 1, "ev', b"\xff\xfe", b"[1]", b'{"time": 1}', b""])
def test_a_damaged_line_is_told_with_its_number(path: Path, line: bytes) -> None:
    write(path, "first", "second")
    first, second, _ = path.read_bytes().split(b"\n")
    path.write_bytes(b"\n".join([first, line, second, b""]))
    with pytest.raises(InputError, match=r"events.jsonl: line 2 is damaged; ") as error:
        read_events(path)
    assert "\n" not in str(error.value)
