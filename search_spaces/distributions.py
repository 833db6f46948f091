"""Search spaces in YAML, and how Optuna is asked to sample them.

Distributions are written as in Ray Tune: `{loguniform: [1e-5, 1e-2]}`, `{choice: [ln, attn]}`.
A plain value is fixed. A parameter may be conditional on others:

    llrd_decay: {uniform: [0.5, 1.0], when: {blocks: ["11-9", "11-7"]}, otherwise: 1.0}
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
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

from errors import did_you_mean
from models.recipe import NO_BLOCKS, Recipe
from models.solvers import SOLVERS

Params = dict[str, Any]
MANY = 10_000  # configurations: more than any cell tries


@dataclass(frozen=True)
class Parameter:
    """One searched parameter: its distribution, and the condition under which it matters."""

    distribution: BaseDistribution
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    otherwise: Any = None

    def active(self, params: Params) -> bool:
        """Whether it is sampled, given the parameters before it."""
        return all(params[name] in allowed for name, allowed in self.when.items())

    def middle(self) -> Any:
        """What to try first where the YAML names no default."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return choices[0]
            case FloatDistribution(low=low, high=high, log=log, step=step):
                value = math.sqrt(low * high) if log else (low + high) / 2
                value = min(max(value, low), high)
                return value if step is None else low + step * round((value - low) / step)
            case IntDistribution(low=low, high=high, log=log, step=step):
                value = math.sqrt(low * high) if log else (low + high) / 2
                return low + step * round((value - low) / step)
        raise TypeError(f"no middle of {self.distribution}")


@dataclass(frozen=True)
class Space:
    """What a method searches (`searched`) and what it fixes (`fixed`).

    Values of `fixed` may be banks (tuples), trained at once in every trial.
    """

    fixed: Params
    searched: dict[str, Parameter]
    default: Params

    @cached_property
    def size(self) -> float:
        """The number of distinct configurations, up to `MANY`; infinite with any continuous
        parameter."""
        if any(not _is_finite(p.distribution) for p in self.searched.values()):
            return math.inf
        return sum(1 for _ in itertools.islice(self._configurations(dict(self.fixed)), MANY))

    def _configurations(self, params: Params) -> Iterator[Params]:
        """Every configuration that begins with `params`."""
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
        """A configuration, sampled by `trial`'s study."""
        params = dict(self.fixed)
        for name, parameter in self.searched.items():
            params[name] = (
                _suggested(trial, name, parameter.distribution)
                if parameter.active(params)
                else parameter.otherwise
            )
        return params

    def distributions(self, params: Params) -> dict[str, BaseDistribution]:
        """Of the parameters that were sampled in `params`.

        The others were inactive, or were set to what is not sampled once they had been.
        """
        return {
            name: parameter.distribution
            for name, parameter in self.searched.items()
            if parameter.active(params) and _contains(parameter.distribution, params[name])
        }

    def first(self) -> Params:
        """The recipe's default: the first configuration every cell tries."""
        params = dict(self.fixed)
        for name, parameter in self.searched.items():
            if not parameter.active(params):
                params[name] = parameter.otherwise
            else:
                params[name] = self.default.get(name, parameter.middle())
        return params

    def reachable(self, name: str) -> tuple[Any, ...]:
        """Every value that parameter `name` can take, where they can be listed."""
        if name in self.searched:
            parameter = self.searched[name]
            values = tuple(_values(parameter.distribution))
            return (*values, parameter.otherwise) if parameter.when else values
        return (self.fixed.get(name, Recipe.model_fields[name].default),)


def _suggested(trial: optuna.Trial, name: str, distribution: BaseDistribution) -> Any:
    match distribution:
        case CategoricalDistribution(choices=choices):
            return trial.suggest_categorical(name, choices)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_float(name, low, high, log=log, step=step)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return trial.suggest_int(name, low, high, log=log, step=step)
    raise TypeError(f"cannot sample {distribution}")


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


def _is_finite(distribution: BaseDistribution) -> bool:
    return not isinstance(distribution, FloatDistribution) or distribution.step is not None


_NUMBERS = {
    "uniform": "[low, high]",
    "loguniform": "[low, high]",
    "quniform": "[low, high, step]",
    "randint": "[low, high) of whole numbers",
    "lograndint": "[low, high) of whole numbers",
}
DISTRIBUTIONS = ("choice", "bank", *_NUMBERS)


def parse_space(space: Mapping[str, Any], default: Mapping[str, Any]) -> Space:
    """Read a method's `space:` and `default:`.

    Raises:
        ValueError: one line that begins with the parameter's name.
    """
    fixed: Params = {}
    searched: dict[str, Parameter] = {}
    for name, spec in space.items():
        if name not in Recipe.model_fields:
            raise ValueError(_unknown(name, list(Recipe.model_fields)))
        try:
            if not isinstance(spec, Mapping):
                fixed[name] = _checked(name, spec)
            elif "bank" in spec:
                fixed[name] = _checked(name, _bank(spec))
            else:
                searched[name] = _parameter(name, spec)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    for name, parameter in searched.items():
        earlier = {*fixed, *list(searched)[: list(searched).index(name)]}
        if late := [other for other in parameter.when if other not in earlier]:
            raise ValueError(
                f"{name}: when: {late[0]} must be a parameter of this space, above {name}"
            )
    first: Params = {}
    for name, value in default.items():
        if name not in searched:
            where = "is fixed in" if name in fixed else "is not in"
            allowed = ", ".join(searched) or "nothing"
            raise ValueError(f"default: {name} {where} the space; allowed: {allowed}")
        try:
            first[name] = _checked(name, value)
        except ValueError as error:
            raise ValueError(f"default: {name}: {error}") from None
        if not _contains(searched[name].distribution, first[name]):
            raise ValueError(f"default: {name}: {value!r} lies outside its distribution")
    parsed = Space(fixed, searched, first)
    _check_banks(parsed)
    _check_solver(parsed)
    return parsed


def _check_solver(space: Space) -> None:
    """Check that every solver meets the blocks and the starts of the head that it can take."""
    trained = [blocks for blocks in space.reachable("blocks") if blocks != NO_BLOCKS]
    for solver in (SOLVERS[name] for name in space.reachable("solver")):
        if trained and not solver.trains_encoder:
            raise ValueError(
                f"solver: {solver.name} needs blocks: none, but blocks may be {trained[0]}"
            )
        for start in space.reachable("head_start"):
            if solver.only_start not in (None, start):
                raise ValueError(
                    f"solver: {solver.name} needs head_start: {solver.only_start}, but head_start "
                    f"may be {start}"
                )


def _check_banks(space: Space) -> None:
    """Whatever is sampled, a bank of heads must not meet trained blocks."""
    trained = [blocks for blocks in space.reachable("blocks") if blocks != NO_BLOCKS]
    for name in ("head_lr", "weight_decay"):
        banks = trained if _is_bank(space.fixed.get(name)) else []
        if name in space.searched and _is_bank(space.searched[name].otherwise):
            when = space.searched[name].when
            banks = [b for b in trained if set(when) != {"blocks"} or b not in when["blocks"]]
        if banks:
            raise ValueError(
                f"{name}: several values at once need blocks: none, but blocks may be {banks[0]}"
            )


def _is_bank(value: Any) -> bool:
    return isinstance(value, tuple) and len(value) > 1


def _unknown(name: Any, known: list[str]) -> str:
    hint = did_you_mean(str(name), known)
    return f"{name}: unknown parameter; {hint}allowed: {', '.join(known)}"


def _checked(name: str, value: Any) -> Any:
    """`value` as the recipe takes it; raises ValueError where it doesn't."""
    from pydantic import ValidationError

    options: Params = {name: value}
    if name in ("head_lr", "weight_decay"):
        options["blocks"] = "none"  # banks are checked against `blocks` once all is known
    if name == "solver":
        options["head_start"] = "zero_shot"  # which `solver: none` needs
    try:
        checked = getattr(Recipe(**options), name)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise ValueError(f"{value!r}: {message}") from None
    if isinstance(checked, tuple):
        return checked if isinstance(value, list | tuple) else checked[0]
    return checked


def _bank(spec: Mapping[str, Any]) -> tuple[Any, ...]:
    if set(spec) != {"bank"} or not isinstance(spec["bank"], list) or not spec["bank"]:
        raise ValueError("write a bank as {bank: [1e-3, 1e-2]}")
    return tuple(spec["bank"])


def _parameter(name: str, spec: Mapping[str, Any]) -> Parameter:
    kinds = [key for key in spec if key not in ("when", "otherwise")]
    if len(kinds) != 1 or kinds[0] not in DISTRIBUTIONS:
        written = ", ".join(map(str, kinds)) or "nothing"
        raise ValueError(f"expected one distribution, got {written}; allowed: "
                         f"{', '.join(DISTRIBUTIONS)}")  # fmt: skip
    distribution = _distribution(name, kinds[0], spec[kinds[0]])
    when = spec.get("when", {})
    if not isinstance(when, Mapping):
        raise ValueError("write a condition as when: {blocks: ['11-9', '11-7']}")
    if bool(when) != ("otherwise" in spec):
        raise ValueError("`when` and `otherwise` go together")
    conditions = {}
    for other, allowed in when.items():
        if other not in Recipe.model_fields:
            raise ValueError(f"when: {_unknown(other, list(Recipe.model_fields))}")
        values = allowed if isinstance(allowed, list) else [allowed]
        conditions[other] = tuple(_checked(other, v) for v in values)
    otherwise = _checked(name, spec["otherwise"]) if when else None
    return Parameter(distribution, conditions, otherwise)


def _distribution(name: str, kind: str, arguments: Any) -> BaseDistribution:
    if kind == "choice":
        if not isinstance(arguments, list) or not arguments:
            raise ValueError("write choices as {choice: [a, b]}")
        if any(isinstance(value, list) for value in arguments):
            raise ValueError(f"choice: {arguments!r}: single values only")
        values = [_checked(name, value) for value in arguments]
        if twice := [value for i, value in enumerate(values) if value in values[:i]]:
            raise ValueError(f"choice: {twice[0]!r} is there twice")
        return CategoricalDistribution(values)
    form = f"{{{kind}: {_NUMBERS[kind]}}}"
    expected = 3 if kind == "quniform" else 2
    numbers = isinstance(arguments, list) and all(
        isinstance(a, int | float) and not isinstance(a, bool) for a in arguments
    )
    if not numbers or len(arguments) != expected:
        raise ValueError(f"{arguments!r}: write it as {form} with numbers")
    low, high = arguments[0], arguments[1]
    if not low < high:
        raise ValueError(f"{kind}: {arguments!r}: low must be below high")
    if "log" in kind and low <= 0:
        raise ValueError(f"{kind}: {arguments!r}: low must be above 0")
    if kind in ("randint", "lograndint"):
        high -= 1
        if not (isinstance(low, int) and isinstance(high, int)):
            raise ValueError(f"{kind}: {arguments!r}: whole numbers only")
    step = arguments[2] if kind == "quniform" else None
    if step is not None and not 0 < step <= high - low:
        raise ValueError(f"{kind}: {arguments!r}: step must be above 0 and at most high - low")
    for end in (low, high):
        checked = _checked(name, end)
    if isinstance(checked, str):
        raise ValueError(f"{kind}: takes no numbers; write it as {{choice: [a, b]}}")
    if kind in ("randint", "lograndint"):
        return IntDistribution(low, high, log=kind == "lograndint")
    whole = kind == "quniform" and all(float(a).is_integer() for a in arguments)
    if isinstance(checked, int) and not whole:
        raise ValueError(f"{kind}: {arguments!r}: whole numbers only; write randint or lograndint")
    return FloatDistribution(low, high, log=kind == "loguniform", step=step)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    low, high, step = distribution.low, distribution.high, distribution.step
    if not isinstance(value, int | float) or not low <= value <= high:
        return False
    return step is None or abs((value - low) / step - round((value - low) / step)) < 1e-8
