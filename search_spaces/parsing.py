"""Read a method's `space:`: what it fixes, what it searches, and whether that goes together.

Distributions are written as in Ray Tune: `{loguniform: [1e-5, 1e-2]}`, `{choice: [ln, attn]}`.
A plain value is fixed. A parameter may be conditional on others:

    llrd_decay: {uniform: [0.5, 1.0], when: {blocks: ["11-9", "11-7"]}, otherwise: 1.0}
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from models.solvers import SOLVERS, StepSolver
from search_spaces.distributions import (
    Parameter,
    Params,
    Space,
    as_setting,
    check_known,
    contains,
    prefixed,
    recipe_of,
)

CHOICES = 1000  # the most of one parameter
STEPS = 10**12  # the most values of a `quniform`
BANKS = ("head_lr", "weight_decay", "anchor", "gda")  # that may hold several values at once
_NUMBERS = {
    "uniform": "[low, high]",
    "loguniform": "[low, high]",
    "quniform": "[low, high, step]",
    "randint": "[low, high) of whole numbers",
    "lograndint": "[low, high) of whole numbers",
}
DISTRIBUTIONS = ("choice", "bank", *_NUMBERS)


def parse_space(space: Mapping[str, Any], default: Mapping[str, Any]) -> Space:
    """Read a method's `space:` and `default:`; a ValueError names the parameter in one line."""
    fixed: Params = {}
    searched: dict[str, Parameter] = {}
    for name, spec in space.items():
        check_known(name)
        with prefixed(name):
            if not isinstance(spec, Mapping):
                fixed[name] = as_setting(name, spec)
            elif "bank" in spec:
                fixed[name] = as_setting(name, _bank(spec))
            else:
                searched[name] = _parameter(name, spec)
    _check_order(fixed, searched)
    first = {name: _first_value(name, value, fixed, searched) for name, value in default.items()}
    parsed = Space(fixed, searched, first)
    _check_combinations(parsed)
    _check_solver(parsed)
    _check_use(parsed)
    return parsed


def _first_value(name: str, value: Any, fixed: Params, searched: Mapping[str, Parameter]) -> Any:
    """Return the value that `default:` gives to a searched parameter."""
    if name not in searched:
        where = "is fixed in" if name in fixed else "is not in"
        allowed = ", ".join(searched) or "nothing"
        raise ValueError(f"default: {name} {where} the space; allowed: {allowed}")
    with prefixed(f"default: {name}"):
        checked = as_setting(name, value)
        if not contains(searched[name].distribution, checked):
            raise ValueError(f"{value!r} lies outside its distribution")
    return checked


def _check_order(fixed: Params, searched: Mapping[str, Parameter]) -> None:
    """Refuse a condition on a parameter whose value is not known when it is asked for."""
    known = set(fixed)
    for name, parameter in searched.items():
        if late := [other for other in parameter.when if other not in known]:
            why = f"when: {late[0]} must be a parameter of this space, above {name}"
            raise ValueError(f"{name}: {why}")
        known.add(name)


STEPS_DECAY = 100.0  # the largest weight decay of a solver that takes steps
_RELATED = ("blocks", "solver", "head_start")  # what a recipe checks together, beside banks


def _check_combinations(space: Space) -> None:
    """Refuse a space in which some values would be no recipe together."""
    for values in itertools.product(*(space.reachable(name) for name in _RELATED)):
        params = dict(zip(_RELATED, values, strict=True))
        banks = {name: _bank_beside(space, name, params["blocks"]) for name in BANKS}
        try:
            recipe_of(params | {name: bank for name, bank in banks.items() if bank})
        except ValueError as rule:
            allowed = ", ".join(f"{name}: {value}" for name, value in params.items())
            raise ValueError(f"{rule}; the space allows {allowed}") from None


def _check_solver(space: Space) -> None:
    """Refuse what only heads that are solved for can have, where they may not be."""
    solvers = [SOLVERS[name] for name in space.reachable("solver")]
    highest = {} if all("anchor" in solver.banked for solver in solvers) else {"anchor": 0.0}
    if any(isinstance(solver, StepSolver) for solver in solvers):
        highest |= {"weight_decay": STEPS_DECAY, "top_k": 1.0}
    for name, most in highest.items():
        if _highest(space, name) > most:
            raise ValueError(f"{name} above {most:g} needs solver: lbfgs")


def _check_use(space: Space) -> None:
    """Refuse to search what no solver uses: all of its values would be one and the same."""
    names = dict.fromkeys(space.reachable("solver"))
    used = set().union(*(SOLVERS[name].settings for name in names))
    for name in space.searched:
        if name not in used | {"blocks", "solver"}:
            solvers, allowed = " or ".join(names), ", ".join(sorted(used)) or "nothing"
            raise ValueError(f"{name}: solver: {solvers} does not use it; it may search {allowed}")


def _highest(space: Space, name: str) -> float:
    """Return the largest value of a parameter that holds numbers."""
    value = space.fixed.get(name, 0.0)
    if name in space.searched:
        distribution: Any = space.searched[name].distribution
        value = getattr(distribution, "choices", None) or distribution.high
    return float(max(value) if isinstance(value, tuple) else value)


def _bank_beside(space: Space, name: str, blocks: str) -> tuple[float, ...] | None:
    """Return the bank that parameter `name` may be while `blocks` are trained, if any."""
    value = space.fixed.get(name)
    if name in space.searched:
        parameter = space.searched[name]
        sampled = set(parameter.when) == {"blocks"} and blocks in parameter.when["blocks"]
        value = None if sampled else parameter.otherwise
    return value if isinstance(value, tuple) else None


def _bank(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    if set(spec) != {"bank"} or not isinstance(spec["bank"], list) or not spec["bank"]:
        raise ValueError("write a bank as {bank: [1e-3, 1e-2]}")
    return tuple(spec["bank"])


def _parameter(name: str, spec: Mapping[str, Any]) -> Parameter:
    kinds = [key for key in spec if key not in ("when", "otherwise")]
    if len(kinds) != 1 or kinds[0] not in DISTRIBUTIONS:
        written = ", ".join(map(str, kinds)) or "nothing"
        allowed = ", ".join(DISTRIBUTIONS)
        raise ValueError(f"expected one distribution, got {written}; allowed: {allowed}")
    (kind,) = kinds
    distribution = (
        _choice(name, spec[kind]) if kind == "choice" else _numbers(name, kind, spec[kind])
    )
    when = spec.get("when", {})
    if not isinstance(when, Mapping):
        raise ValueError("write a condition as when: {blocks: ['11-9', '11-7']}")
    if bool(when) != ("otherwise" in spec):
        raise ValueError("`when` and `otherwise` go together")
    conditions = {}
    for other, allowed in when.items():
        with prefixed("when"):
            check_known(other)
        values = allowed if isinstance(allowed, list) else [allowed]
        conditions[other] = tuple(as_setting(other, value) for value in values)
    return Parameter(
        distribution, conditions, as_setting(name, spec["otherwise"]) if when else None
    )


def _choice(name: str, arguments: Any) -> CategoricalDistribution:
    if not isinstance(arguments, list) or not arguments:
        raise ValueError("write choices as {choice: [a, b]}")
    if any(isinstance(value, list) for value in arguments):
        raise ValueError(f"choice: {arguments!r}: single values only")
    if len(arguments) > CHOICES:
        raise ValueError(f"choice: {len(arguments)} values; allowed: {CHOICES} at most")
    values = [as_setting(name, value) for value in arguments]
    if twice := [value for i, value in enumerate(values) if value in values[:i]]:
        raise ValueError(f"choice: {twice[0]!r} is there twice")
    return CategoricalDistribution(values)


def _numbers(name: str, kind: str, arguments: Any) -> BaseDistribution:
    expected = 3 if kind == "quniform" else 2
    if (
        not isinstance(arguments, list)
        or len(arguments) != expected
        or any(isinstance(a, bool) or not isinstance(a, int | float) for a in arguments)
    ):
        raise ValueError(f"{arguments!r}: write it as {{{kind}: {_NUMBERS[kind]}}} with numbers")
    low, high = arguments[:2]
    step = arguments[2] if kind == "quniform" else None
    log, whole = "log" in kind, kind in ("randint", "lograndint")
    with prefixed(f"{kind}: {arguments!r}"):
        if not low < high:
            raise ValueError("low must be below high")
        if log and low <= 0:
            raise ValueError("low must be above 0")
        if whole and not (isinstance(low, int) and isinstance(high, int)):
            raise ValueError("whole numbers only")
        if step is not None and not 0 < step <= high - low:
            raise ValueError("step must be above 0 and at most high - low")
        if step is not None and (high - low) / step > STEPS:
            raise ValueError(f"more than {STEPS} steps; write uniform")
    high = high - 1 if whole else high
    for end in (low, high):
        checked = as_setting(name, end)
    if isinstance(checked, str):
        raise ValueError(f"{kind}: takes no numbers; write it as {{choice: [a, b]}}")
    if whole:
        return IntDistribution(low, high, log=log)
    on_grid = step is not None and all(float(a).is_integer() for a in arguments)
    if isinstance(checked, int) and not on_grid:
        raise ValueError(f"{kind}: {arguments!r}: whole numbers only; write randint or lograndint")
    return FloatDistribution(low, high, log=log, step=step)
