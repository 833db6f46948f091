"""Memory is given back where the C library can, and elsewhere nothing is amiss."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tune import sharing


def absent(name: str) -> Any:
    raise OSError(name)


@pytest.mark.parametrize("library", [absent, lambda name: SimpleNamespace()])
def test_another_c_library_is_left_alone(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing.ctypes, "CDLL", library)
    sharing._trim()


def test_what_was_fetched_is_trimmed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    trimmed: list[None] = []
    monkeypatch.setattr(sharing, "_trim", lambda: trimmed.append(None))
    monkeypatch.setattr(sharing.ray, "get", lambda ref: [ref])
    assert sharing.fetch("made up") is sharing.fetch("made up")  # type: ignore[arg-type]
    assert len(trimmed) == 1
