"""Read a method's search space, and list or sample its configurations.

Distributions are written as in Ray Tune: `{loguniform: [1e-5, 1e-2]}`, `{choice: [ln, attn]}`.
A plain value is fixed. A parameter may be conditional on others:

    llrd_decay: {uniform: [0.5, 1.0], when: {blocks: ["11-9", "11-7"]}, otherwise: 1.0}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from pydantic import ValidationError

from errors import did_you_mean
from models.recipe import Recipe, Settings
from models.solvers import SOLVERS, StepSolver
from search_spaces.mistakes import explained

Params = dict[str, Any]
MANY = 10_000  # the most configurations of a finite space that are counted, and so tried
CHOICES = 1000  # the most of one parameter
STEPS = 10**12  # the most values of a `quniform`
BANKS = ("head_lr", "weight_decay", "anchor", "gda")  # that may hold several values at once


@dataclass(frozen=True)
class Parameter:
    """A parameter that is sampled if other parameters have allowed values, by name."""

    distribution: BaseDistribution
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    otherwise: Any = None

    def active(self, params: Params) -> bool:
        """Whether the parameter is sampled, given the parameters before it."""
        return all(params[name] in allowed for name, allowed in self.when.items())

    def middle(self) -> Any:
        """Return the value to try first if the YAML names no default."""
        if isinstance(self.distribution, CategoricalDistribution):
            return self.distribution.choices[0]
        numbers = _numeric(self.distribution)
        low, high, step = numbers.low, numbers.high, numbers.step
        value = math.sqrt(low * high) if numbers.log else (low + high) / 2
        if step is None:
            return min(max(value, low), high)
        return low + step * round((value - low) / step)


@dataclass(frozen=True)
class Space:
    """The configurations of a method.

    Attributes:
        fixed: parameters of one value; a tuple is a bank, trained at once in every trial.
        searched: parameters to sample, in the order of their conditions.
        default: values to try first, of some or all of `searched`.
    """

    fixed: Params
    searched: dict[str, Parameter]
    default: Params

    @cached_property
    def size(self) -> float:
        """The number of configurations, at most `MANY`; infinite if a parameter is continuous."""
        distributions = [parameter.distribution for parameter in self.searched.values()]
        if any(isinstance(d, FloatDistribution) and d.step is None for d in distributions):
            return math.inf
        return sum(1 for _ in itertools.islice(self._configurations(dict(self.fixed)), MANY))

    def _configurations(self, params: Params) -> Iterator[Params]:
        """Yield every configuration that begins with `params`."""
        undecided = [name for name in self.searched if name not in params]
        if not undecided:
            yield params
            return
        parameter = self.searched[undecided[0]]
        values = (
            _values(parameter.distribution) if parameter.active(params) else [parameter.otherwise]
        )
        for value in values:
            yield from self._configurations({**params, undecided[0]: value})

    def suggest(self, trial: optuna.Trial) -> Params:
        """Return a configuration, sampled by the sampler of `trial`'s study."""
        return self._filled(lambda name, p: _suggested(trial, name, p.distribution))

    def first(self) -> Params:
        """Return the configuration that every cell tries first: the space's default."""
        return self._filled(lambda name, p: self.default.get(name, p.middle()))

    def _filled(self, value: Callable[[str, Parameter], Any]) -> Params:
        """Return a configuration in which active parameters have the given values."""
        params = dict(self.fixed)
        for name, parameter in self.searched.items():
            active = parameter.active(params)
            params[name] = value(name, parameter) if active else parameter.otherwise
        return params

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        """Return the distributions of the parameters that were sampled in `params`.

        Inactive parameters have none, nor have those set to a value outside their distribution.
        """
        return {
            name: parameter.distribution
            for name, parameter in self.searched.items()
            if parameter.active(params) and _contains(parameter.distribution, params[name])
        }

    def check(self, params: Params) -> None:
        """Check that `params`, as a file may have it, is a configuration of these parameters.

        Raises:
            ValueError: a parameter is missing, or `check_recipe` refuses them.
        """
        if missing := [name for name in (*self.fixed, *self.searched) if name not in params]:
            raise ValueError(f"{missing[0]} is missing")
        check_recipe(params)

    def reachable(self, name: str) -> tuple[Any, ...]:
        """Return every value that a parameter can take; raises ValueError if it is continuous."""
        if name in self.searched:
            parameter = self.searched[name]
            values = tuple(_values(parameter.distribution))
            return (*values, parameter.otherwise) if parameter.when else values
        return (self.fixed.get(name, Recipe.model_fields[name].default),)


def _suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    if isinstance(distribution, CategoricalDistribution):
        return trial.suggest_categorical(name, distribution.choices)
    d = _numeric(distribution)
    if isinstance(d, FloatDistribution):
        return trial.suggest_float(name, d.low, d.high, log=d.log, step=d.step)
    return trial.suggest_int(name, d.low, d.high, log=d.log, step=d.step)


def _numeric(distribution: BaseDistribution) -> FloatDistribution | IntDistribution:
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    return distribution


def _values(distribution: BaseDistribution) -> Iterator[Any]:
    match distribution:
        case CategoricalDistribution(choices=choices):
            yield from choices
        case IntDistribution(low=low, high=high, step=step):
            yield from range(low, high + 1, step)
        case FloatDistribution(low=low, high=high, step=float(step)):
            yield from (low + i * step for i in range(round((high - low) / step) + 1))
        case _:
            raise ValueError(f"the values of {distribution} cannot be listed")


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
        _check_known(name)
        with _prefixed(name):
            if not isinstance(spec, Mapping):
                fixed[name] = _checked(name, spec)
            elif "bank" in spec:
                fixed[name] = _checked(name, _bank(spec))
            else:
                searched[name] = _parameter(name, spec)
    _check_order(fixed, searched)
    first = {name: _first_value(name, value, fixed, searched) for name, value in default.items()}
    parsed = Space(fixed, searched, first)
    _check_combinations(parsed)
    _check_solver(parsed)
    return parsed


@contextmanager
def _prefixed(place: str) -> Iterator[None]:
    """Put `place` in front of what a ValueError says."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _check_known(name: Any) -> None:
    known = list(Recipe.model_fields)
    if name not in known:
        hint = did_you_mean(str(name), known)
        raise ValueError(f"{name}: unknown parameter; {hint}allowed: {', '.join(known)}")


def _checked(name: str, value: Any) -> Any:
    """Return `value` as the recipe takes it, a bank of one as a single value."""
    try:
        checked = getattr(Settings(**{name: value}), name)
    except ValidationError as error:
        raise ValueError(explained(error.errors()[0])) from None
    single = isinstance(checked, tuple) and not isinstance(value, list | tuple)
    return checked[0] if single else checked


def check_recipe(params: Params) -> None:
    """Raise ValueError unless `params` make a recipe, each with a value of the right type."""
    for name, value in params.items():
        _check_known(name)
        with _prefixed(name):
            given = tuple(value) if isinstance(value, list) else value
            if _checked(name, value) != given or isinstance(value, bool):
                raise ValueError(f"{value!r} is of the wrong type")
    _recipe(params)


def _recipe(params: Params) -> Recipe:
    try:
        return Recipe(**params)
    except ValidationError as error:
        raise ValueError(explained(error.errors()[0])) from None


def _first_value(name: str, value: Any, fixed: Params, searched: Mapping[str, Parameter]) -> Any:
    """Return the value that `default:` gives to a searched parameter."""
    if name not in searched:
        where = "is fixed in" if name in fixed else "is not in"
        allowed = ", ".join(searched) or "nothing"
        raise ValueError(f"default: {name} {where} the space; allowed: {allowed}")
    with _prefixed(f"default: {name}"):
        checked = _checked(name, value)
        if not _contains(searched[name].distribution, checked):
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
            _recipe(params | {name: bank for name, bank in banks.items() if bank})
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
        with _prefixed("when"):
            _check_known(other)
        values = allowed if isinstance(allowed, list) else [allowed]
        conditions[other] = tuple(_checked(other, value) for value in values)
    return Parameter(distribution, conditions, _checked(name, spec["otherwise"]) if when else None)


def _choice(name: str, arguments: Any) -> CategoricalDistribution:
    if not isinstance(arguments, list) or not arguments:
        raise ValueError("write choices as {choice: [a, b]}")
    if any(isinstance(value, list) for value in arguments):
        raise ValueError(f"choice: {arguments!r}: single values only")
    if len(arguments) > CHOICES:
        raise ValueError(f"choice: {len(arguments)} values; allowed: {CHOICES} at most")
    values = [_checked(name, value) for value in arguments]
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
    with _prefixed(f"{kind}: {arguments!r}"):
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
        checked = _checked(name, end)
    if isinstance(checked, str):
        raise ValueError(f"{kind}: takes no numbers; write it as {{choice: [a, b]}}")
    if whole:
        return IntDistribution(low, high, log=log)
    on_grid = step is not None and all(float(a).is_integer() for a in arguments)
    if isinstance(checked, int) and not on_grid:
        raise ValueError(f"{kind}: {arguments!r}: whole numbers only; write randint or lograndint")
    return FloatDistribution(low, high, log=log, step=step)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    numbers = _numeric(distribution)
    low, high, step = numbers.low, numbers.high, numbers.step
    if not isinstance(value, int | float) or not low <= value <= high:
        return False
    return step is None or abs((value - low) / step - round((value - low) / step)) < 1e-8
