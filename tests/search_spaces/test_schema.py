from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from search_spaces import Experiment, load_experiment
from tests.search_spaces.written import refused
from tests.tune.search.simulated import FIXED, FROZEN, LLRD, ZEROS


def build(methods: dict[str, Any], **more: Any) -> Experiment:
    return Experiment.model_validate(
        {"name": "x", "data": {"source": "digits"}, "methods": methods, **more}
    )


ZERO_SHOT = {"space": {"blocks": "none", "solver": "none", "head_start": "zero_shot"}}
LBFGS = {"space": {"blocks": "none", "solver": "lbfgs", "weight_decay": {"bank": [0.1, 1]}}}


def test_the_probe_is_the_first_method_that_trains_a_head_alone() -> None:
    methods = {"llrd": LLRD, "one": FROZEN, "two": FROZEN}
    assert build(methods).probe == "one"
    assert build({"zeros": ZEROS}).probe is None
    assert build({"clip": ZERO_SHOT, "exact": LBFGS, "one": FROZEN}).probe == "exact"
    assert build({"clip": ZERO_SHOT}).probe is None


def test_a_zero_shot_classifier_is_no_probe_to_start_from(tmp_path: Path) -> None:
    path = tmp_path / "no_probe.yaml"
    tree = {"data": {"source": "digits"}, "methods": {"clip": ZERO_SHOT, "llrd": LLRD}}
    path.write_text(yaml.safe_dump(tree))
    assert "methods.llrd: starts from a probe's head" in refused(path)


@pytest.mark.parametrize(
    ("head_start", "needs"),
    [
        ("probe", False),
        ("zeros", False),
        ("zero_shot", True),
        ({"choice": ["probe", "zero_shot"]}, True),
    ],
)
def test_the_text_tower_is_needed_if_a_trial_may_start_from_it(
    head_start: Any, needs: bool
) -> None:
    tuned = {"space": {"blocks": "11", "head_start": head_start}}
    assert build({"frozen": FROZEN, "m": tuned}).needs_zero_shot == needs


def test_views_are_the_most_that_a_trial_may_use() -> None:
    assert build({"frozen": FROZEN}).views == 0
    tuned = {"space": {"blocks": "11", "views": {"choice": [0, 3]}}}
    probe = {"space": {"blocks": "none", "views": {"randint": [1, 3]}}}
    experiment = build({"frozen": probe, "m": tuned})
    assert experiment.views == 3
    assert [method.views for method in experiment.methods.values()] == [2, 3]


@pytest.mark.parametrize(
    ("blocks", "frozen"),
    [
        ("none", True),
        ({"choice": ["none"]}, True),
        ({"choice": ["none", "11"]}, False),
        ("11", False),
        ("all", False),
    ],
)
def test_a_method_is_frozen_if_no_trial_trains_blocks(blocks: Any, frozen: bool) -> None:
    method = build({"m": {"space": {"blocks": blocks}}, "frozen": FROZEN}).methods["m"]
    assert method.frozen_encoder == frozen
    assert method.needs_probe != frozen


@pytest.mark.parametrize(
    ("head_start", "needs"),
    [
        ("probe", True),
        ("zeros", False),
        ("zero_shot", False),
        ({"choice": ["zeros", "probe"]}, True),
        ({"choice": ["zeros", "zero_shot"]}, False),
    ],
)
def test_a_method_needs_a_probe_if_a_trial_may_start_from_it(head_start: Any, needs: bool) -> None:
    space = {"blocks": "11", "head_start": head_start}
    assert build({"frozen": FROZEN, "m": {"space": space}}).methods["m"].needs_probe == needs


def test_a_method_that_needs_a_probe_is_refused_without_one(tmp_path: Path) -> None:
    path = tmp_path / "headless.yaml"
    path.write_text(yaml.safe_dump({"data": {"source": "digits"}, "methods": {"llrd": LLRD}}))
    assert refused(path) == (
        f"{path}: methods.llrd: starts from a probe's head, but no method has blocks: none; "
        "allowed: add one, or head_start: zeros or zero_shot"
    )


def test_selected_methods_keep_their_probe_and_order(file: Path) -> None:
    assert list(load_experiment(file, methods=["fixed", "llrd"]).methods) == [
        "frozen",
        "llrd",
        "fixed",
    ]
    assert list(load_experiment(file, methods=["llrd"]).methods) == ["frozen", "llrd"]
    assert list(load_experiment(file, methods=["frozen"]).methods) == ["frozen"]
    assert list(load_experiment(file).methods) == ["frozen", "llrd", "fixed"]


def test_a_method_that_starts_from_zeros_is_kept_alone(file: Path) -> None:
    selected = load_experiment(file, ["methods.fixed.space.head_start=zeros"], methods=["fixed"])
    assert list(selected.methods) == ["fixed"]


def test_selected_methods_stay_as_they_were(file: Path) -> None:
    whole, part = load_experiment(file), load_experiment(file, methods=["llrd"])
    assert part.methods["llrd"] == whole.methods["llrd"]
    assert part.search == whole.search


@pytest.mark.parametrize(("methods", "gain"), [(["llrd"], "llrd"), (["fixed"], None)])
def test_the_gain_of_a_method_that_is_left_out_is_not_shown(
    file: Path, methods: list[str], gain: str | None
) -> None:
    selected = load_experiment(file, ["report.gain=llrd"], methods=methods)
    assert selected.report.gain == gain


def test_an_unknown_method_is_refused(file: Path) -> None:
    assert refused(file, methods=["lrd"]) == (
        f"--methods 'lrd': not in {file}; did you mean 'llrd'? allowed: frozen, llrd, fixed"
    )


def test_budgets_and_horizons_are_the_methods_own_or_the_searchs() -> None:
    experiment = build(
        {"frozen": {**FROZEN, "samples": 7}, "llrd": LLRD, "fixed": FIXED},
        search={"trials": 9, "samples": 50},
    )
    assert [experiment.trials(m) for m in experiment.methods] == [3, 9, 1]
    assert [experiment.horizon(m, 100) for m in experiment.methods] == [7, 50, 50]


def test_few_images_are_seen_no_more_often_than_epochs_say() -> None:
    methods = {"frozen": {**FROZEN, "samples": 7}, "llrd": LLRD}
    experiment = build(methods, search={"samples": 50, "epochs": 3})
    horizons = {n: [experiment.horizon(m, n) for m in experiment.methods] for n in (2, 10, 17)}
    assert horizons == {2: [6, 6], 10: [7, 30], 17: [7, 50]}


def test_defaults_are_methods_of_their_own_where_blocks_are_searched() -> None:
    methods = {"frozen": FROZEN, "llrd": {**LLRD, "samples": 7}, "fixed": FIXED}
    assert list(build(methods).methods) == list(methods)
    experiment = build(methods, final={"default": True})
    assert list(experiment.methods) == [*methods, "llrd_default"]
    default, searched = experiment.methods["llrd_default"], experiment.methods["llrd"]
    assert default.parsed.first() == searched.parsed.first()
    assert experiment.trials("llrd_default") == 1
    assert experiment.horizon("llrd_default", 100) == experiment.horizon("llrd", 100)
    assert Experiment.model_validate(experiment.resolved()) == experiment
