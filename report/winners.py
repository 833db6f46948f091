"""What the winners have in common: how far they moved, which weights were kept, what mattered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from statistics import fmean

from records.final_fit import FinalFit
from report.formatting import span
from report.run import Run

LEAST = 0.005  # an importance that rounds to nothing is left out


def winner_lines(run: Run) -> Iterator[str]:
    """Yield the footer's lines on the winners of each method."""
    for method in run.methods:
        yield from _movement(run, method)
    for method in run.methods:
        yield from _kept_weights(run, method)
    for method in run.methods:
        yield from _importance(run, method)


def mean_alpha(fits: Iterable[FinalFit]) -> float | None:
    """Return the mean interpolation of the fits that chose one."""
    return _mean(fit.alpha for fit in fits)


def ema_share(fits: Iterable[FinalFit]) -> float | None:
    """Return the share of fits that kept their averaged weights, of those that had any."""
    return _mean(fit.ema for fit in fits)


def _movement(run: Run, method: str) -> Iterator[str]:
    """Say how far a method's winners moved the encoder, and how long they trained."""
    cells = [
        fits
        for partition in run.partitions
        if (winner := run.winner(partition, method)) and winner.unfrozen
        if (fits := run.final_fits(partition, method))
    ]
    moved = _means(cells, lambda fit: fit.weight_distance)
    steps = _means(cells, lambda fit: fit.steps_chosen)
    said = [f"moved {span(moved, _percent)} from their start"] if moved else []
    said += [f"best after {span(steps, '{:.0f}'.format)} steps"] if steps else []
    if said:
        yield f"{method} winners {', '.join(said)}"


def _kept_weights(run: Run, method: str) -> Iterator[str]:
    """Say which weights validation kept: interpolated (WiSE-FT), averaged (EMA) or neither."""
    fits = [fit for partition in run.partitions for fit in run.final_fits(partition, method)]
    alphas = [fit.alpha for fit in fits if fit.alpha is not None]
    averaged = [fit.ema for fit in fits if fit.ema is not None]
    said = []
    if alphas:
        mean = "" if min(alphas) == max(alphas) else f" (mean {fmean(alphas):.2g})"
        chosen = span(alphas, "{:.2g}".format)
        said.append(f"interpolation chosen on validation: alpha {chosen}{mean}")
    if averaged:
        said.append(f"averaged weights in {sum(averaged)} of {len(averaged)} fits")
    if said:
        yield f"{method}: {', '.join(said)}"


def _importance(run: Run, method: str) -> Iterator[str]:
    """Say which settings decided the validation score, over all partitions' trials.

    Importances sum to 1, so that of a setting alone there is nothing to say.
    """
    table = run.importance
    pooled = table[(table["partition"] == "all") & (table["method"] == method)]
    shares = pooled.set_index("parameter")["importance"].sort_values(ascending=False, kind="stable")
    said = [f"{parameter} {share:.2f}" for parameter, share in shares.items() if share >= LEAST]
    if said and len(pooled) > 1:
        trials = pooled["trials"].max()
        yield f"what mattered for {method} (PED-ANOVA over {trials:.0f} trials): {', '.join(said)}"


def _means(
    cells: Iterable[Iterable[FinalFit]], value: Callable[[FinalFit], float | None]
) -> list[float]:
    """Return the mean over seeds of a value, for every cell that has it."""
    means = (_mean(value(fit) for fit in fits) for fits in cells)
    return [mean for mean in means if mean is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are there; None without any."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _percent(fraction: float) -> str:
    percent = 100 * fraction
    return f"{percent:.1f}%" if percent >= 1 else f"{percent:.2g}%"
