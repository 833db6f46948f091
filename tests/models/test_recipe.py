"""The settings of a fit: what is allowed, and what follows from them."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pydantic import ValidationError

from models.recipe import Recipe


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"blocks": "last"}, "names no blocks"),
        ({"blocks": "7-"}, "names no blocks"),
        ({"blocks": "-1"}, "names no blocks"),
        ({"blocks": -1}, "names no blocks"),
        ({"blocks": "1,2"}, "names no blocks"),
        ({"blocks": True}, "string"),
        ({"kinds": "ln+norm"}, "unknown kind 'norm'"),
        ({"kinds": ""}, "unknown kind ''"),
        ({"kinds": "ln+mlp+ln"}, "names a kind twice"),
        ({"blocks": "1", "head_lr": [1e-3, 1e-2]}, "need blocks: none"),
        ({"blocks": "1", "weight_decay": [0, 0.1]}, "need blocks: none"),
        ({"head_lr": []}, "at least 1"),
        ({"lr": -1e-3}, "greater than 0"),
        ({"lr": 0}, "greater than 0"),
        ({"lr": math.nan}, "(?i)finite|greater"),
        ({"lr": math.inf}, "(?i)finite|less"),
        ({"head_lr": [1e-3, math.nan]}, "(?i)finite|greater"),
        ({"weight_decay": -0.1}, "greater than or equal to 0"),
        ({"weight_decay": math.nan}, "(?i)finite|greater"),
        ({"llrd_decay": 0}, "greater than 0"),
        ({"llrd_decay": 1.1}, "less than or equal to 1"),
        ({"llrd_decay": math.nan}, "(?i)finite"),
        ({"warmup": 1}, "less than 1"),
        ({"warmup": -0.1}, "greater than or equal to 0"),
        ({"label_smoothing": 1}, "less than 1"),
        ({"batch_size": 0}, "greater than or equal to 1"),
        ({"batch_size": 2.5}, "integer"),
        ({"head_start": "random"}, "'probe', 'zero_shot' or 'zeros'"),
        ({"solver": "newton"}, "unknown solver 'newton'; allowed: adamw, lbfgs, gda, none"),
        ({"solver": "lbfgs", "blocks": "1"}, "solver: lbfgs needs blocks: none"),
        ({"solver": "none", "blocks": "all"}, "solver: none needs blocks: none"),
        ({"solver": "none"}, "solver: none needs head_start: zero_shot"),
        ({"views": -1}, "greater than or equal to 0"),
        ({"views": 65}, "less than or equal to 64"),
        ({"anchor": -1}, "greater than or equal to 0"),
        ({"momentum": 0.9}, "not permitted"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Recipe(**settings)


def test_a_bank_is_every_pair() -> None:
    recipe = Recipe(head_lr=[1e-3, 1e-2], weight_decay=[0, 0.1, 1])
    assert recipe.bank == tuple(
        {"head_lr": lr, "weight_decay": wd} for lr in (1e-3, 1e-2) for wd in (0.0, 0.1, 1.0)
    )
    assert Recipe(blocks="1", head_lr=[0.5]).bank == ({"head_lr": 0.5, "weight_decay": 0.0},)


def test_one_head_of_a_bank_has_a_recipe_of_its_own() -> None:
    recipe = Recipe(solver="lbfgs", anchor=[0, 0.3], weight_decay=[0.1, 1])
    assert recipe.chosen(2) == {"anchor": 0.3, "weight_decay": 0.1}
    assert recipe.of_head(2) == Recipe(solver="lbfgs", anchor=0.3, weight_decay=0.1)
    assert Recipe(head_lr=0.5, weight_decay=0.1).chosen(0) == {}  # nothing was chosen


def test_a_solver_has_no_rates_and_none_has_no_decays_either() -> None:
    settings = {"head_lr": [1e-3, 1e-2], "weight_decay": [0, 0.1, 1]}
    solved = Recipe(solver="lbfgs", **settings)
    kept = Recipe(solver="none", head_start="zero_shot", **settings)
    assert [head["weight_decay"] for head in solved.bank] == [0, 0.1, 1]
    assert len(kept.bank) == 1
    assert not solved.takes_steps
    assert not kept.takes_steps


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({}, "zeros"),  # a probe is what others start from
        ({"solver": "lbfgs", "head_start": "zero_shot"}, "zeros"),
        ({"solver": "lbfgs", "anchor": 0}, "zeros"),
        ({"solver": "lbfgs", "anchor": [0, 1]}, "zero_shot"),
        ({"solver": "none", "head_start": "zero_shot"}, "zero_shot"),
        ({"head_start": "zero_shot"}, "zero_shot"),
        ({"blocks": "1"}, "probe"),
        ({"blocks": "1", "head_start": "zero_shot"}, "zero_shot"),
        ({"blocks": "1", "head_start": "zeros"}, "zeros"),
    ],
)
def test_where_the_head_starts(settings: dict[str, Any], start: str) -> None:
    assert Recipe(**settings).start == start
