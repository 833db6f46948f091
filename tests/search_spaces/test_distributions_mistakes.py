"""What a space refuses, in one line that begins with the parameter."""

from __future__ import annotations

import re
from typing import Any

import pytest

from models.recipe import Recipe
from search_spaces import parse_space
from tests.search_spaces.test_distributions import DECAY, parsed, samples

LR = {"uniform": [1e-3, 1.0]}
BAD_FORMS = [
    ("lrr", 1e-3, "unknown parameter; did you mean 'lr'? allowed: blocks, kinds, lr"),
    ("zzz", 1e-3, "unknown parameter; allowed: blocks, kinds, lr"),
    ("lr", 0, "0 is too small. Allowed: above 0"),
    ("lr", "fast", "'fast' is no number. Allowed: one such as 0.5"),
    ("lr", None, "null is no number. Allowed: one such as 0.5"),
    ("lr", [1e-3, 1e-2], "is no number"),
    ("lr", float("nan"), "nan is not finite"),
    ("lr", 10**400, "is no number"),
    ("blocks", "12-x", "'12-x' names no blocks; allowed: none, final, all, last 5, 11, 11-7"),
    ("kinds", "ln+norm", "unknown kind 'norm'; allowed: ln, attn, mlp"),
    ("kinds", "ln+ln", "names a kind twice"),
    ("head_start", "prob", "'prob' is unknown. Allowed: 'probe', 'zero_shot' or 'zeros'"),
    ("head_lr", [], "has too few entries"),
    ("batch_size", 1.5, "no whole number"),
    ("lr", {}, "expected one distribution, got nothing; allowed: choice, bank, uniform"),
    ("lr", {"unifrom": [1, 2]}, "expected one distribution, got unifrom; allowed: choice"),
    ("lr", {"uniform": [1, 2], "choice": [1]}, "expected one distribution, got uniform, choice"),
    ("lr", {1: [1, 2]}, "expected one distribution, got 1"),
    ("lr", {"uniform": [1]}, "write it as {uniform: [low, high]} with numbers"),
    ("lr", {"uniform": 1}, "1: write it as {uniform: [low, high]} with numbers"),
    ("lr", {"uniform": ["a", "b"]}, "write it as {uniform: [low, high]} with numbers"),
    ("lr", {"uniform": [False, True]}, "write it as {uniform: [low, high]} with numbers"),
    ("lr", {"quniform": [1, 2]}, "write it as {quniform: [low, high, step]} with numbers"),
    ("lr", {"uniform": [2, 1]}, "low must be below high"),
    ("lr", {"uniform": [1, 1]}, "low must be below high"),
    ("lr", {"uniform": [float("nan"), 1]}, "low must be below high"),
    ("lr", {"uniform": [1, float("inf")]}, "inf is not finite"),
    ("lr", {"uniform": [0.0, 1]}, "0.0 is too small. Allowed: above 0"),
    ("weight_decay", {"loguniform": [0, 1]}, "low must be above 0"),
    ("weight_decay", {"lograndint": [0, 4]}, "low must be above 0"),
    ("llrd_decay", {"uniform": [0.5, 1.5]}, "1.5 is too large. Allowed: 1 or less"),
    ("lr", {"quniform": [1, 2, 0]}, "step must be above 0 and at most high - low"),
    ("lr", {"quniform": [1, 2, 1.5]}, "step must be above 0 and at most high - low"),
    ("lr", {"quniform": [1, 2, float("nan")]}, "step must be above 0"),
    ("lr", {"quniform": [1, 2, float("inf")]}, "step must be above 0"),
    ("batch_size", {"randint": [1, 2.5]}, "whole numbers only"),
    ("batch_size", {"uniform": [16, 64]}, "whole numbers only; write randint or lograndint"),
    ("batch_size", {"loguniform": [16, 64]}, "whole numbers only; write randint or lograndint"),
    ("lr", {"quniform": [1, 2, 1e-300]}, "more than 1000000000000 steps; write uniform"),
    ("warmup", {"quniform": [0, 0.5, 1e-323]}, "more than 1000000000000 steps; write uniform"),
    ("lr", {"choice": [i + 1 for i in range(1001)]}, "choice: 1001 values; allowed: 1000 at most"),
    (
        "weight_decay",
        {"bank": [i / 2 for i in range(101)]},
        "has too many entries. Allowed: 100 or fewer",
    ),
    ("blocks", "1" * 5000, "names no blocks; allowed: none, final, all, last 5, 11, 11-7"),
    ("batch_size", {"quniform": [16, 64, 0.5]}, "whole numbers only; write randint"),
    ("blocks", {"randint": [7, 12]}, "takes no numbers; write it as {choice: [a, b]}"),
    ("kinds", {"uniform": [0, 1]}, "is no text"),
    ("lr", {"choice": []}, "write choices as {choice: [a, b]}"),
    ("kinds", {"choice": ["ln", "attn", "ln"]}, "choice: 'ln' is there twice"),
    ("lr", {"choice": "ln"}, "write choices as {choice: [a, b]}"),
    ("lr", {"choice": [1e-3, -1]}, "-1 is too small. Allowed: above 0"),
    ("head_lr", {"choice": [[1e-3, 1e-2], [1e-1]]}, "single values only"),
    ("lr", {"bank": [1e-3]}, "is no number"),
    ("head_lr", {"bank": []}, "write a bank as {bank: [1e-3, 1e-2]}"),
    ("head_lr", {"bank": 1e-3}, "write a bank as {bank: [1e-3, 1e-2]}"),
    ("head_lr", {"bank": [1e-3], "when": {"blocks": "none"}}, "write a bank as"),
    ("lr", {**LR, "when": {"blocks": "11"}}, "`when` and `otherwise` go together"),
    ("lr", {**LR, "otherwise": 1}, "`when` and `otherwise` go together"),
    ("lr", {**LR, "when": "blocks", "otherwise": 1}, "write a condition as when: {blocks"),
    ("lr", {**LR, "when": {"blocks": ["x"]}, "otherwise": 1}, "'x' names no blocks"),
    ("lr", {**LR, "when": {"blocks": "11"}, "otherwise": 0}, "0 is too small. Allowed: above 0"),
    (
        "lr",
        {**LR, "when": {"blocs": "11"}, "otherwise": 1},
        "when: blocs: unknown parameter; did you mean 'blocks'?",
    ),
    ("lr", {**LR, "when": {1: "11"}, "otherwise": 1}, "when: 1: unknown parameter; allowed:"),
    (
        "lr",
        {**LR, "when": {"kinds": "ln"}, "otherwise": 1},
        "when: kinds must be a parameter of this space, above lr",
    ),
]


@pytest.mark.parametrize(("name", "form", "message"), BAD_FORMS)
def test_a_bad_parameter_is_refused_with_its_rule(name: str, form: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: .*{re.escape(message)}") as error:
        parse_space({"blocks": "none", name: form}, {})
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("default", "message"),
    [
        ({"lr": 10}, "lr: 10 lies outside its distribution"),
        ({"lr": -1}, "lr: -1 is too small. Allowed: above 0"),
        ({"lr": "fast"}, "lr: 'fast' is no number. Allowed: one such as 0.5"),
        ({"blocks": "11-9"}, "blocks: '11-9' lies outside its distribution"),
        ({"batch_size": 1.5}, "batch_size: 1.5 is no whole number"),
        ({"batch_size": 8}, "batch_size: 8 lies outside its distribution"),
        ({"warmup": 0.15}, "warmup: 0.15 lies outside its distribution"),  # off the grid
        ({"kinds": "ln"}, "kinds is fixed in the space; allowed: blocks, lr, batch_size, warmup"),
        ({"llr": 1}, "llr is not in the space; allowed: blocks, lr, batch_size, warmup"),
    ],
)
def test_a_default_outside_the_space_is_refused(default: dict[str, Any], message: str) -> None:
    space = {
        "blocks": {"choice": ["11", "all"]},
        "kinds": "ln",
        "lr": LR,
        "batch_size": {"randint": [1, 8]},
        "warmup": {"quniform": [0.0, 0.2, 0.1]},
    }
    with pytest.raises(ValueError, match=f"^default: {re.escape(message)}") as error:
        parse_space(space, default)
    assert len(str(error.value).splitlines()) == 1


def test_a_condition_on_a_parameter_below_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^llrd_decay: when: blocks must be .* above llrd_decay"):
        parse_space({"llrd_decay": DECAY, "blocks": {"choice": ["11", "11-7"]}}, {})


def test_an_anchor_needs_heads_that_are_solved_for() -> None:
    solved = parsed(blocks="none", solver="lbfgs", anchor={"bank": [0, 1]}, weight_decay=[1, 1e9])
    assert solved.fixed["anchor"] == (0.0, 1.0)
    for name, form in (
        ("anchor", {"bank": [0, 1]}),
        ("anchor", {"uniform": [0, 1]}),
        ("anchor", 1),
    ):
        with pytest.raises(ValueError, match="anchor above 0 needs solver: lbfgs"):
            parsed(blocks="none", **{name: form})
    for form in (101, {"loguniform": [1e-3, 1e3]}, {"choice": [1, 1000]}):
        with pytest.raises(ValueError, match="weight_decay above 100 needs solver: lbfgs"):
            parsed(blocks="11", weight_decay=form)


@pytest.mark.parametrize("blocks", ["11", {"choice": ["none", "11"]}])
def test_a_bank_never_meets_trained_blocks(blocks: Any) -> None:
    with pytest.raises(ValueError, match=r"^several head_lr .* need blocks: none; .* blocks: 11, "):
        parsed(blocks=blocks, head_lr={"bank": [1e-3, 1e-2]})
    single = parsed(blocks=blocks, head_lr={"bank": [1e-3]})
    assert all(Recipe(**params).chosen(0) == {} for params, _ in samples(single, 0))


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"blocks": "11", "solver": "lbfgs"}, "solver: lbfgs needs blocks: none; .* blocks: 11,"),
        (
            {"blocks": {"choice": ["none", "11"]}, "solver": "lbfgs"},
            "space allows blocks: 11,",
        ),
        ({"blocks": "11-7", "solver": {"choice": ["adamw", "lbfgs"]}}, "solver: lbfgs needs"),
        ({"blocks": "11", "solver": "none", "head_start": "zero_shot"}, "solver: none needs"),
        ({"solver": "none"}, "solver: none needs head_start: zero_shot; .* head_start: probe$"),
        ({"solver": "none", "head_start": "zeros"}, "head_start: zeros$"),
        (
            {"solver": "none", "head_start": {"choice": ["zero_shot", "zeros"]}},
            "head_start: zeros$",
        ),
    ],
)
def test_a_solver_is_for_probes_and_none_for_a_head_that_is_there(
    space: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        parse_space(space, {})
    assert len(str(error.value).splitlines()) == 1


def test_solved_probes_may_be_searched() -> None:
    space = parsed(blocks="none", solver={"choice": ["adamw", "lbfgs"]}, weight_decay=[0.1, 1])
    assert {Recipe(**params).takes_steps for params, _ in samples(space, 0, 20)} == {True, False}
    assert parsed(solver="none", head_start="zero_shot").size == 1


def test_a_conditional_bank_may_belong_to_the_frozen_encoder() -> None:
    blocks = {"choice": ["none", "11"]}
    head_lr = {"uniform": [1, 2], "when": {"blocks": "11"}, "otherwise": [1e-3, 1e-2]}
    for params, _ in samples(parsed(blocks=blocks, head_lr=head_lr), 0, 20):
        assert len(Recipe(**params).bank) == (2 if params["blocks"] == "none" else 1)
    with pytest.raises(ValueError, match=r"^several head_lr or weight_decay at once"):
        parsed(blocks=blocks, head_lr={**head_lr, "when": {"blocks": "none"}})
