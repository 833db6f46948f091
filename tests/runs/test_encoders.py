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
from models.head import LinearHead
from models.joined import join_heads
from records import Cell, weights_path
from search_spaces import Experiment
from tests.runs.helpers import ROOT, events, small, without_cost
from tune.encoders import run_encoders
from tune.evaluate import evaluate
from tune.run import Options

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("ray_session")]
BUNDLED = ROOT / "models" / "glyph_clip"


def two_encoders(folder: Path, experiment: Experiment) -> Experiment:
    """Of the bundled encoder, and the same with noise in its weights, which is worse."""
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
    tree = experiment.resolved()
    del tree["model"]
    models = {"worse": worse, "bundled": BUNDLED}
    tree["models"] = {name: {"name": f"local-dir:{place}"} for name, place in models.items()}
    return Experiment.model_validate(tree | {"name": "two"})


def test_probes_choose_whose_blocks_are_trained(tmp_path: Path) -> None:
    few = small("search.samples=100", methods=("frozen", "seed_llrd"))
    experiment = two_encoders(tmp_path, few)
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


def test_joined_encoders_follow_those_that_they_join(tmp_path: Path) -> None:
    """Their run begins when the others' have ended, as after a kill between the two."""
    few = small("data.partitions=[100]", methods=("zero_shot", "frozen"))
    single = two_encoders(tmp_path, few)
    said = io.StringIO()
    console = Console(file=said, width=300)
    run_encoders(single, Options(out=tmp_path), console)
    folder, names = tmp_path / "two", [*single.models]
    before = {name: without_cost(folder / name) for name in names}
    tree = single.resolved()
    tree["models"]["both"] = {"concat": names}
    experiment = Experiment.model_validate(tree)
    summary = run_encoders(experiment, Options(out=tmp_path, resume=True), console)
    assert not summary.missing
    table = pd.read_csv(folder / "accuracy_table.csv")
    assert {*table[["encoder", "method"]].agg("/".join, axis=1)} == {
        f"{name}/{method}" for name in (*names, "both") for method in few.methods
    }
    assert {name: without_cost(folder / name) for name in names} == before
    sizes = {name: events(folder / name, "encoder")[0] for name in experiment.models}
    for key in ("parameters", "flops"):
        assert sizes["both"][key] == sum(sizes[name][key] for name in names)
    heads = []
    for name in experiment.models:
        weights = load_file(weights_path(folder / name, Cell(100, "zero_shot"), 0))
        heads.append(LinearHead(weights["head/weight"], weights["head/bias"]))
    expected = join_heads(heads[:2])
    torch.testing.assert_close(heads[2].weight, expected.weight, rtol=0, atol=0)
    torch.testing.assert_close(heads[2].bias, expected.bias, rtol=0, atol=0)
    assert evaluate(folder / "both", None, console)
    assert "4 of 4 figures are the same" in said.getvalue()
