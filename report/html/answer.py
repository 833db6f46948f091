"""The answer in two sentences, and the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metrics import WORDS
from partitions import named, titled
from records import TEST, Cell
from report.device_seconds import row_cost
from report.enough import MARGINS, enough, images_of
from report.formatting import listed, of_blocks
from report.grid import plain_methods, table_rows
from report.html.words import largest, percent, settings, share_of, span_of
from report.run import Run, encoder_of


@dataclass(frozen=True)
class Answer:
    """What to do, and how much more images would bring.

    Attributes:
        accuracy: that of the recommended cell, in percent; empty without a result.
    """

    sentences: tuple[str, ...]
    accuracy: str = ""
    interval: str = ""
    choice: str = ""

    @property
    def text(self) -> str:
        """Both sentences in one line."""
        return " ".join(self.sentences)


def answer(run: Run) -> Answer:
    """Say what a run recommends, and what more images would bring.

    It is the best method of the row from which on more images bring at most a point, or of the
    largest row.
    """
    last = largest(run)
    if last is None:
        return Answer(("There is no answer yet: no winner has been scored on the test images.",))
    found = enough(run, last.method)
    little = found is not None and found.margin == MARGINS[0]
    start = found.start if found and little else None
    # Where another method is the best of that row, nothing is known of its gain to the largest.
    suits = start is not None and run.best.get(start) == last.method
    cell = Cell(start, last.method) if start is not None and suits else last
    scores = run.scores(*cell)
    assert scores is not None
    interval = scores.interval()
    winner = run.winner(*cell)
    blocks = str(winner.config.get("blocks", "none")) if winner else "none"
    tuned = winner is not None and winner.kind == "tuned" and blocks not in ("all", "final")
    trained = f" ({of_blocks(blocks)})" if tuned else ""
    use = f"With {share_of(run, cell)} use {cell.method}{trained}"
    metric = "" if run.metric == "accuracy" else f" {WORDS[run.metric]}"
    accuracy = f"{percent(interval.mean)}{metric} ({span_of(interval)})"
    return Answer(
        (
            f"{use}: {accuracy}{_gain(run, cell)}{_untried(run, cell)}.",
            _more(run, last, cell.method),
        ),
        percent(interval.mean),
        f"{span_of(interval)}, on images that no step of the search has seen"
        + ("" if cell == last else "; the row was chosen by them"),
        f"{cell.method}: {settings(winner)}",
    )


def _gain(run: Run, cell: Cell) -> str:
    """Compare a cell with the probe of its encoder, or a probe with its zero-shot."""
    encoder = f"{encoder_of(cell.method)}/" if run.parts else ""
    of = run.parts[encoder_of(cell.method)] if run.parts else run
    for own, name in ((of.baseline, "a linear probe"), (of.zero_shot, "zero-shot")):
        other = f"{encoder}{own}"
        if own is None or other == cell.method:
            continue
        gain = run.difference(cell.partition, cell.method, other)
        if gain is None:
            continue
        points = f"{100 * abs(gain.mean):.1f} points"
        if not gain.shown:
            return f", not shown to differ from {name}"
        return f", {points} {'above' if gain.mean > 0 else 'below'} {name}"
    return ""


def _untried(run: Run, cell: Cell) -> str:
    """Name the methods without a result at a cell's row, which may be better."""
    row = [each for each in run.cells() if each.partition == cell.partition]
    untried = [each.method for each in row if not run.final_fits(*each)]
    verb = "has" if len(untried) == 1 else "have"
    return f"; {listed(untried)} {verb} no result there" if untried else ""


def _more(run: Run, last: Cell, named: str) -> str:
    """Say what more images would bring the best method of the largest row, which may be `named`."""
    found = enough(run, last.method)
    if found is None:
        return "What more images would bring, this run cannot tell."
    same = last.method == named
    to = "" if same else f" to {last.method}"
    if found.start is not None:
        at_most = found.at_most.replace("1 ", "a ")
        where = f"{titled(found.start)} ({images_of(run, found.start, last.method):,} images)"
        return f"Beyond {where}, more images add at most {at_most}{to}."
    step = f"from {titled([*found.gains][-1])} to {titled(found.largest)}"
    if found.rising:
        it = "It" if same else last.method
        return f"{it} still gains {100 * found.last.mean:.1f} points {step}: more images may help."
    points = f"{100 * found.last.high:.1f} points"
    return f"More images may help: {step} {'it' if same else last.method} may gain up to {points}."


def table(run: Run) -> dict[str, Any]:
    """Return the table's header and rows, the best of each row marked."""
    header = ["labels", "images", *(["encoder"] if run.parts else []), *plain_methods(run)]
    gains = run.compared and run.baseline and run.compared != run.baseline
    gain_name = "gain" if run.parts else f"{run.compared} − {run.baseline}"
    rows = []
    for place, row in enumerate(table_rows(run)):
        partition, of, best = row.partition, row.of, run.best.get(row.partition)
        best = best if best in row.columns else None
        fits = [fit for method in of.methods for fit in of.final_fits(partition, method)]
        cells = [_cell(run, Cell(partition, method), method == best) for method in row.columns]
        gain = of.difference(partition, of.compared or "", of.baseline or "") if gains else None
        rows.append(
            {
                "name": titled(partition),
                "encoder": row.encoder,
                "place": place,
                "images": fits[0].n_train if fits else None,
                "cells": cells,
                "gain": gain,
                "gain_text": f"{100 * gain.mean:+.1f}" if gain else "–",
                "gain_half": f"± {100 * gain.half_width:.1f}" if gain and gain.half_width else "",
                "seconds": row_cost(of, partition).spent,
                "best": best or "–",
                "settings": settings(run.winner(partition, best)) if best else "",
            }
        )
    return {
        "header": header,
        "rows": rows,
        "encoders": bool(run.parts),
        "gain": gain_name if gains else "",
    }


def _cell(run: Run, cell: Cell, best: bool) -> dict[str, Any]:
    scores = run.scores(*cell)
    if scores is None:
        return {
            "text": "–",
            "half": "",
            "best": False,
            "value": -1.0,
            "title": f"{cell}: no result",
        }
    interval = scores.interval()
    half = interval.half_width
    return {
        "text": f"{100 * interval.mean:.1f}",
        "half": "" if half is None else f"± {100 * half:.1f}",
        "best": best,
        "value": interval.mean,
        "title": f"{named(cell.partition)}/{cell.method}: {settings(run.winner(*cell))}",
    }


def extra_tests(run: Run) -> list[dict[str, Any]]:
    """Return the accuracy of each row's best method on the further test sets."""
    found = []
    for name in run.extra_tests:
        rows = []
        for partition, method in run.best.items():
            both = run.scores(partition, method, name), run.scores(partition, method, TEST)
            if both[0] and both[1]:
                rows.append(
                    {
                        "name": titled(partition),
                        "method": method,
                        "extra": both[0].interval().points(),
                        "test": both[1].interval().points(),
                    }
                )
        found.append({"name": name, "rows": rows})
    return found
