"""A method's search space: its parameters, and its configurations, listed or sampled."""

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
from search_spaces.mistakes import explained

Params = dict[str, Any]
MANY = 10_000  # the most configurations of a finite space that are counted, and so tried


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
            if parameter.active(params) and contains(parameter.distribution, params[name])
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


@contextmanager
def prefixed(place: str) -> Iterator[None]:
    """Put `place` in front of what a ValueError says."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def check_known(name: Any) -> None:
    """Raise ValueError unless recipes have a setting of this name."""
    known = list(Recipe.model_fields)
    if name not in known:
        hint = did_you_mean(str(name), known)
        raise ValueError(f"{name}: unknown parameter; {hint}allowed: {', '.join(known)}")


def as_setting(name: str, value: Any) -> Any:
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
        check_known(name)
        with prefixed(name):
            given = tuple(value) if isinstance(value, list) else value
            if as_setting(name, value) != given or isinstance(value, bool):
                raise ValueError(f"{value!r} is of the wrong type")
    recipe_of(params)


def recipe_of(params: Params) -> Recipe:
    """Make a recipe; a ValueError says in one line which settings do not go together."""
    try:
        return Recipe(**params)
    except ValidationError as error:
        raise ValueError(explained(error.errors()[0])) from None


def contains(distribution: BaseDistribution, value: Any) -> bool:
    """Whether a distribution may give a value, of whatever type it is."""
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    numbers = _numeric(distribution)
    low, high, step = numbers.low, numbers.high, numbers.step
    if not isinstance(value, int | float) or not low <= value <= high:
        return False
    return step is None or abs((value - low) / step - round((value - low) / step)) < 1e-8
