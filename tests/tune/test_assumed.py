"""What a file of weights leaves open is told before a run and under its table."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import tune.run
import tune.setup
from models.loading import load_pretrained
from records import Footnote, read_journal
from search_spaces import load_experiment
from tests.runs.helpers import DIGITS
from tune.run import Options, run

ASSUMED = "ViT-B-32 with weights from a file gets GELU"


class BegunError(Exception):
    """Everything before the search is done."""


def test_it_is_a_warning_and_a_footnote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(*arguments: Any) -> Any:
        return dataclasses.replace(load_pretrained(*arguments), assumed=(ASSUMED,))

    def begin(*_: Any) -> None:
        raise BegunError

    monkeypatch.setattr(tune.setup, "load_pretrained", load)
    monkeypatch.setattr(tune.run, "final_fits_of", begin)
    said = io.StringIO()
    sets = [f"features.cache={tmp_path / 'cache'}"]
    with pytest.raises(BegunError):
        run(load_experiment(DIGITS, sets), Options(out=tmp_path), Console(file=said, width=200))
    assert f"warning: {ASSUMED}\n" in said.getvalue()
    (journal,) = tmp_path.glob("*/*.jsonl")
    assert ASSUMED in [e.text for e in read_journal(journal) if isinstance(e, Footnote)]
