"""What every fit is given: its rows, its validation, its views and where its head starts."""

from __future__ import annotations

import dataclasses
import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from ray import cloudpickle

from data import Draws, Listed
from models.config import ModelConfig
from models.head import LinearHead
from models.loading import Pretrained, load_pretrained
from models.recipe import Recipe
from models.solvers import SOLVERS
from models.zero_shot import Prompts
from records import Cell
from search_spaces.schedulers import SETTINGS
from tests.runs.helpers import small
from tune.search.schedulers import SCHEDULERS
from tune.setup import prepare
from tune.trials.trial_context import TrialContext
from tune.workers.object_store import NOT_MADE, UNREADABLE, SharedArray, SharedSplit
from tune.workers.own_parts import _own_modules, code_digest, take_along

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = (1, 5, 10, 25, 33.3, 50, 100)


def rows_only(labels: int, *more: str, validation: str = "full", seed: int = 0) -> TrialContext:
    """A context on which rows can be drawn, and nothing fitted."""
    rng = np.random.default_rng(labels)
    train, val = (SharedSplit(rng.permutation(np.arange(n) % 7), {}) for n in (labels, labels // 2))
    experiment = small(f"data.validation={validation}", f"seed={seed}", *more)
    draws = Draws(Listed(train.labels), Listed(val.labels), seed, validation == "matched")
    nothing: Any = None
    return TrialContext(
        experiment, nothing, "these data", "float32", tuple("abcdefg"), train, val, {}, draws
    )


def test_an_image_that_cannot_be_read_has_no_part_in_the_draw_of_others() -> None:
    context = rows_only(300, validation="matched")
    rng = np.random.default_rng(0)
    broken = rng.permutation(300)[:30]
    places = np.full(300, UNREADABLE)
    kept = np.setdiff1d(np.arange(300), broken)
    places[kept] = np.arange(270)
    train = SharedSplit(context.train.labels[kept], {}, places=places)
    fewer = dataclasses.replace(context, train=train)
    for partition in PARTITIONS:
        for seed in range(3):
            drawn = context.rows(partition, seed)
            assert (
                kept[fewer.rows(partition, seed)].tolist() == np.setdiff1d(drawn, broken).tolist()
            )
            same = fewer.val_rows(partition, seed), context.val_rows(partition, seed)
            assert np.array_equal(*same)


def test_a_fit_cannot_be_given_an_image_without_features() -> None:
    context = rows_only(300)
    drawn = context.rows(10, 0)
    places = np.full(300, NOT_MADE)
    places[drawn] = np.arange(len(drawn))
    train = SharedSplit(context.train.labels[drawn], {}, places=places)
    few = dataclasses.replace(context, train=train)
    assert few.rows(10, 0).tolist() == list(range(len(drawn)))
    with pytest.raises(LookupError, match="no features were made of row"):
        few.rows(10, 1)


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    prompts = Prompts(("zero", "one", "two"), ("the digit {}",))
    return load_pretrained(ModelConfig(), prompts)


@pytest.fixture
def context(pretrained: Pretrained, ray_session: None) -> TrialContext:
    """Thirty images of three classes, with two views of each training image."""
    rng = torch.Generator().manual_seed(0)
    boundaries = ("block 11", "head")

    def features() -> dict[str, Any]:
        pixels = torch.randn(30, 3, 24, 24, generator=rng)
        crossed = pretrained.encoder.features(pixels, boundaries)
        return {b: SharedArray(ray.put(crossed[b].numpy())) for b in boundaries}

    labels = np.arange(30) % 3
    copies = [features(), features()]
    train = SharedSplit(labels, features(), {b: tuple(c[b] for c in copies) for b in boundaries})
    val = SharedSplit(labels, features())
    experiment = small("search.samples=60")
    shared, classes = ray.put(pretrained), ("a", "b", "c")
    images = dict.fromkeys(PARTITIONS, 30)
    draws = Draws(Listed(labels), Listed(labels), 0, matched=False)
    return TrialContext(
        experiment, shared, "these data", "float32", classes, train, val, images, draws
    )


OWN = """
import numpy, pytest
from own_numbers import HALF
from models.solvers import SOLVERS, DirectSolver
from tune.search.schedulers import Scheduler, register

class Means(DirectSolver):
    name = "means"
    def solve(self, recipe, embeddings, labels, heads):
        return 1

class Twice(Scheduler):
    @staticmethod
    def rungs(settings, horizon, images):
        return horizon // HALF, horizon

register("twice", Twice)
SOLVERS["means"] = Means()
"""
READ = """
import pickle, sys
context = pickle.loads(sys.stdin.buffer.read())
from models.recipe import Recipe
print(*context.scheduler.rungs(None, 80, 10), Recipe(blocks="none", solver="means").solver)
"""


def test_workers_have_the_parts_that_a_program_adds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They neither ran the program nor find its files."""
    (tmp_path / "own_parts.py").write_text(OWN)
    (tmp_path / "own_numbers.py").write_text("HALF = 2\ndef later(): import own_late")
    (tmp_path / "own_late.py").touch()
    for registry in (SCHEDULERS, SETTINGS):
        monkeypatch.setitem(registry, "twice", None)  # to be taken away again
    monkeypatch.setitem(SOLVERS, "means", None)
    with monkeypatch.context() as there:
        there.syspath_prepend(tmp_path)
        importlib.import_module("own_parts")
        before = code_digest()
        assert _own_modules() >= {"own_parts", "own_numbers", "own_late"}
        assert not _own_modules() & {"numpy", "pytest", "models.solvers"}
        for name in ("own_parts.py", "own_numbers.py", "own_late.py"):
            was = (tmp_path / name).read_text()
            (tmp_path / name).write_text(f"{was}\n")
            assert before != code_digest() != ""  # a run does not go on with other code
            (tmp_path / name).write_text(was)
        assert before == code_digest()
    take_along()
    context = rows_only(50, "search.scheduler=twice")
    worker = subprocess.run(
        [sys.executable, "-c", READ],
        input=cloudpickle.dumps(context), cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    assert worker.stdout.split() == [b"40", b"80", b"means"]


TUNED = {"blocks": "11", "batch_size": 10, "lr": 1e-3}


@pytest.mark.ray
def test_heads_start_where_the_recipe_says(context: TrialContext, pretrained: Pretrained) -> None:
    cell, probe = Cell(100, "llrd"), {"blocks": "none", "head_lr": 1e-2, "batch_size": 10}

    def start(head_start: str) -> LinearHead:
        return context.fit(cell, {**TUNED, "head_start": head_start}, probe, 0).model.head.head(0)

    assert pretrained.zero_shot is not None
    assert torch.equal(start("zero_shot").weight, pretrained.zero_shot.weight)
    assert not start("zeros").weight.any()
    assert start("probe").weight.any()
    assert not torch.equal(start("probe").weight, start("zero_shot").weight)


@pytest.mark.ray
def test_a_probe_is_the_same_as_read_back_from_the_journal(context: TrialContext) -> None:
    cell, config = Cell(100, "llrd"), {**TUNED, "head_start": "probe"}
    probe = {"blocks": "none", "solver": "lbfgs", "head_lr": (1e-2,), "weight_decay": (1e-3,)}
    heads = [
        context.fit(cell, config, given, 0).model.head.head(0).weight
        for given in (probe, json.loads(json.dumps(probe)))
    ]
    assert torch.equal(*heads)


@pytest.mark.ray
def test_the_search_is_judged_by_some_of_the_validation_images(context: TrialContext) -> None:
    few = dataclasses.replace(context, experiment=small("search.samples=60", "search.val_images=9"))
    cell = Cell(100, "frozen")
    searched, final = (few.fit(cell, {}, None, 0, searching) for searching in (True, False))
    assert (len(searched._val), len(final._val)) == (9, 30)
    assert few.judges_are_few(100)
    assert not context.judges_are_few(100)


@pytest.mark.ray
@pytest.mark.parametrize("blocks", ["none", "11"])
def test_a_fit_trains_on_as_many_views_as_it_asks_for(blocks: str, context: TrialContext) -> None:
    cell = Cell(100, "frozen" if blocks == "none" else "llrd")
    config = {**TUNED, "blocks": blocks, "head_start": "zeros"}
    heads = []
    for views in (0, 1, 2):
        fit = context.fit(cell, {**config, "views": views}, None, 0)
        assert (fit._train.copies, fit._val.copies) == (1 + views, 1)
        fit.train_until(60)
        heads.append(fit.restore_best().weight.clone())
    assert not any(torch.equal(a, b) for a, b in itertools.combinations(heads, 2))
    without = dataclasses.replace(context, train=context.val)
    with pytest.raises(ValueError, match="cached"):  # not ignored
        without.fit(cell, {**config, "views": 1}, None, 0)


@pytest.mark.ray
def test_views_are_trained_on_from_where_they_are_cached(context: TrialContext) -> None:
    low = {"block 11": context.train.views["block 11"]}
    fewer = dataclasses.replace(context, train=dataclasses.replace(context.train, views=low))
    assert fewer.boundary(Recipe(**{**TUNED, "blocks": "none"})) == "head"
    assert fewer.boundary(Recipe(**{**TUNED, "blocks": "none", "views": 1})) == "block 11"


@pytest.mark.parametrize(
    ("methods", "settings", "asked"),
    [
        (["frozen", "seed_llrd"], [], True),
        (["frozen", "seed_llrd"], ["methods.frozen.space.anchor=0"], False),
        (["frozen_zeros"], [], False),
        (["zero_shot"], [], True),
        (["seed_llrd"], ["methods.seed_llrd.space.head_start=zero_shot"], True),
        (["seed_llrd"], ["methods.seed_llrd.space.head_start=zeros"], False),
    ],
)
def test_the_text_tower_is_asked_only_where_a_head_starts_from_it(
    methods: list[str], settings: list[str], asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Prompts] = []

    def classifier(model: Any, name: str, prompts: Prompts, cache: Path) -> LinearHead:
        calls.append(prompts)
        return LinearHead(torch.zeros(10, 96), torch.zeros(10))

    monkeypatch.setattr("models.loading.zero_shot_head", classifier)
    prepared = prepare(small(*settings, methods=methods))
    assert len(calls) == asked
    assert (prepared.pretrained.zero_shot is not None) == asked
    for prompts in calls:
        assert prompts.words == prepared.dataset.words
        assert prompts.templates == prepared.experiment.data.templates
