"""Notes on the winners: how far they moved, which weights they kept, which settings mattered."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from statistics import fmean

from records import FinalFitResult
from report.formatting import span
from report.run import Run

LEAST = 0.005  # an importance below it rounds to 0.00 and is left out


def winner_notes(run: Run) -> Iterator[str]:
    """Yield the notes on the winners of each method."""
    for about in (_movement, _kept_weights, _luck, _importance):
        for method in run.methods:
            yield from about(run, method)


def mean_of_known(values: Iterable[float | None]) -> float | None:
    """Return the mean of the values that are not None; None if all are."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else None


def _movement(run: Run, method: str) -> Iterator[str]:
    """Say how far a method's winners moved the encoder, and after how many steps."""
    cells = [
        fits
        for partition in run.partitions
        if (winner := run.winner(partition, method)) and winner.kind == "tuned"
        if (fits := run.final_fits(partition, method))
    ]
    moved = _means(cells, lambda fit: fit.weight_distance)
    steps = _means(cells, lambda fit: fit.steps_chosen)
    clauses = [f"moved the encoder's weights by {span(moved, _percent)}"] if moved else []
    clauses += [f"were best after {span(steps, '{:.0f}'.format)} steps"] if steps else []
    if clauses:
        yield f"The winners of {method} {' and '.join(clauses)}"


def _kept_weights(run: Run, method: str) -> Iterator[str]:
    """Say which weights validation chose: interpolated (WiSE-FT), averaged (EMA) or neither."""
    fits = [fit for partition in run.partitions for fit in run.final_fits(partition, method)]
    alphas = [fit.alpha for fit in fits if fit.alpha is not None]
    averaged = [fit.ema for fit in fits if fit.ema is not None]
    clauses = []
    if alphas:
        mean = "" if min(alphas) == max(alphas) else f" (mean {fmean(alphas):.2g})"
        chosen = span(alphas, "{:.2g}".format)
        clauses.append(f"interpolation with alpha {chosen}{mean}")
    if averaged:
        clauses.append(f"averaged weights in {sum(averaged)} of {len(averaged)} fits")
    if clauses:
        yield f"For {method}, validation chose {' and '.join(clauses)}"


def _luck(run: Run, method: str) -> Iterator[str]:
    """Say how much of the winners' validation accuracy was luck: refits on other draws lack it.

    The search has picked the best of several trials on one draw, and its own seed repeats that.
    """
    gaps = [
        winner.val_accuracy - fmean(refits)
        for partition in run.partitions
        if (winner := run.winner(partition, method)) and len(run.trials(partition, method)) > 1
        if (refits := [f.val_accuracy for f in run.final_fits(partition, method) if f.seed])
    ]
    if gaps:
        points = f"{100 * fmean(gaps):.1f}"
        more = f"{points} points more" if float(points) > 0 else "no more"
        yield (
            f"The winners of {method} had {more} validation accuracy in the search than in refits "
            f"on other draws{': the luck of the pick' * (more != 'no more')}"
        )


def _importance(run: Run, method: str) -> Iterator[str]:
    """Say which settings decided the validation score, over the trials of all partitions.

    Importances sum to 1, so a single setting always has 1 and gets no note.
    """
    table = run.importance
    pooled = table[(table["partition"] == "all") & (table["method"] == method)]
    shares = pooled.set_index("parameter")["importance"].sort_values(ascending=False, kind="stable")
    ranked = [f"{parameter} {share:.2f}" for parameter, share in shares.items() if share >= LEAST]
    if ranked and len(pooled) > 1:
        trials = f"{pooled['trials'].max():.0f} trials"
        yield f"PED-ANOVA over {trials} gives the settings of {method} these importances: " + (
            ", ".join(ranked)
        )


def _means(
    cells: Iterable[Iterable[FinalFitResult]], value: Callable[[FinalFitResult], float | None]
) -> list[float]:
    """Return the mean over seeds of a value, for every cell that has the value."""
    means = (mean_of_known(value(fit) for fit in fits) for fits in cells)
    return [mean for mean in means if mean is not None]


def _percent(fraction: float) -> str:
    percent = 100 * fraction
    return f"{percent:.1f}%" if percent >= 1 else f"{percent:.2g}%"
