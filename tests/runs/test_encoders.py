"""A run with several encoders: whose blocks are trained, how it resumes, and that it is scored."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from errors import InputError
from search_spaces import Experiment
from tests.runs.helpers import ROOT, events, small
from tune.encoders import run_encoders
from tune.evaluate import evaluate
from tune.run import Options

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
BUNDLED = ROOT / "models" / "glyph_clip"


def two_encoders(folder: Path) -> Experiment:
    """The bundled encoder, and the same with noise in its weights, which is worse."""
    worse = folder / "worse"
    shutil.copytree(BUNDLED, worse)
    (file,) = worse.glob("*.safetensors")
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: weight + weight.std() * torch.randn(weight.shape, generator=generator)
        if name.startswith("visual.transformer") and weight.ndim > 1
        else weight
        for name, weight in load_file(file).items()
    }
    save_file(weights, file)
    tree = small("search.samples=100", methods=("frozen", "seed_llrd")).resolved()
    del tree["model"]
    models = {"worse": worse, "bundled": BUNDLED}
    tree["models"] = {name: {"name": f"local-dir:{place}"} for name, place in models.items()}
    return Experiment.model_validate(tree | {"name": "two"})


def test_probes_choose_whose_blocks_are_trained(tmp_path: Path) -> None:
    experiment = two_encoders(tmp_path)
    said = io.StringIO()
    console = Console(file=said, width=300)
    summary = run_encoders(experiment, Options(out=tmp_path), console)
    assert not summary.missing
    table = pd.read_csv(tmp_path / "two" / "accuracy_table.csv")
    cells = table[["encoder", "method"]].agg("/".join, axis=1)
    assert {*cells} == {"worse/frozen", "bundled/frozen", "bundled/seed_llrd"}
    assert {*table[table.best].encoder} == {"bundled"}
    assert "blocks are trained of bundled" in said.getvalue()

    folders = [tmp_path / "two" / name for name in experiment.models]
    started = [events(folder, "trial_started") for folder in folders]
    again = run_encoders(experiment, Options(out=tmp_path, resume=True), console)
    assert again.answer == summary.answer
    assert started == [events(folder, "trial_started") for folder in folders]
    assert evaluate(tmp_path / "two", None, console)
    written = (tmp_path / "two" / "experiment.yaml").read_bytes()
    other = experiment.model_copy(update={"metric": "macro_f1"})
    with pytest.raises(InputError, match="--resume: metric is"):
        run_encoders(other, Options(out=tmp_path, resume=True), console)
    assert (tmp_path / "two" / "experiment.yaml").read_bytes() == written
    assert "8 of 8 figures are the same" in said.getvalue()
