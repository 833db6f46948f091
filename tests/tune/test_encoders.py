"""Several encoders: what can be known is said before any of them is searched."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

import tune.encoders
from errors import InputError
from models.config import ROOT
from search_spaces import load_experiment
from tests.runs.helpers import DIGITS
from tune.encoders import plan_encoders, run_encoders
from tune.run import Options


@pytest.mark.parametrize("begin", [run_encoders, plan_encoders])
def test_a_broken_encoder_is_refused_before_another_is_searched(
    begin: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound, broken = ROOT / "models/glyph_clip", tmp_path / "broken"
    broken.mkdir()
    for file in sound.glob("open_clip*"):
        content = file.read_bytes()
        (broken / file.name).write_bytes(content[: len(content) // (1 + (file.suffix != ".json"))])
    for name in ("run", "dry_run"):
        monkeypatch.setattr(tune.encoders, name, lambda *_: pytest.fail("it began"))
    models = {"sound": {"name": f"local-dir:{sound}"}, "broken": {"name": f"local-dir:{broken}"}}
    experiment = load_experiment(DIGITS, overrides={"models": models})
    with pytest.raises(InputError, match=r"cannot load local-dir:.*broken"):
        begin(experiment, Options(out=tmp_path / "out"), Console())  # type: ignore[operator]
    assert not (tmp_path / "out").exists()
