"""The plot: test accuracy against the amount of training data, one line per method."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import log10
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context, style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from matplotlib.transforms import offset_copy

from errors import one_line
from partitions import Partition, any_shots, titled

# Okabe and Ito's palette, safe for colour-blind readers; markers help in grey print.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
DODGE = 4.0  # points between methods at one partition, so that no interval hides another
LONGEST_NAME = 50  # characters of a run's name in the title
LABEL_GAP = 0.05  # of the axis; of two partitions closer than this, one has a label


@style.context("default")  # whatever a matplotlibrc in the current folder says
def draw_accuracy(table: pd.DataFrame, name: str, path: Path) -> None:
    """Draw the accuracy table of the run `name` as a PNG of 1200 x 750 pixels.

    No text in it is read as TeX.
    """
    with rc_context({"text.parse_math": False}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it draws a box instead
        _draw(table, one_line(name, LONGEST_NAME), path)


def _draw(table: pd.DataFrame, name: str, path: Path) -> None:
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(f"{name}: test accuracy by amount of training data", loc="left", weight="bold")
    axes.set_ylabel("test accuracy (%): mean and 95% interval")
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    table = table.assign(x=table["partition"].map(_places(table)))
    if "encoder" in table:
        table = table.assign(method=table["encoder"] + "/" + table["method"])
    drawn = table.dropna(subset=["test_accuracy"])
    _set_partitions(axes, table.dropna(subset=["x"]))
    if drawn.empty:
        axes.text(0.5, 0.5, "no final fits yet", transform=axes.transAxes, ha="center", color="0.4")
    else:
        _draw_methods(axes, drawn, list(table["method"].unique()))
        _set_accuracies(axes, drawn)
        axes.legend(frameon=True, framealpha=0.9, edgecolor="0.9", loc="best")
    figure.savefig(path, format="png")


def _draw_methods(axes: Axes, drawn: pd.DataFrame, methods: Sequence[str]) -> None:
    for place, method in enumerate(methods):
        rows = drawn[drawn["method"] == method].sort_values("x")
        if rows.empty:
            continue
        shift = DODGE * (place - (len(methods) - 1) / 2)
        axes.errorbar(
            rows["x"].to_numpy(),
            100 * rows["test_accuracy"].to_numpy(),
            yerr=100 * rows["test_ci95"].fillna(0.0).to_numpy(),
            label=method,
            color=COLOURS[place % len(COLOURS)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            linewidth=1.6,
            elinewidth=1.1,
            capsize=3,
            transform=offset_copy(
                axes.transData, axes.get_figure(root=True), x=shift, units="points"
            ),
        )


def _set_accuracies(axes: Axes, drawn: pd.DataFrame) -> None:
    """Fit the y axis to the intervals, between 0 and 100%."""
    centre, half = 100 * drawn["test_accuracy"], 100 * drawn["test_ci95"].fillna(0.0)
    low, high = float((centre - half).min()), float((centre + half).max())
    margin = max(1.0, 0.06 * (high - low))
    axes.set_ylim(max(low - margin, -1.0), min(high + margin, 101.0))


def _places(table: pd.DataFrame) -> dict[Partition, float]:
    """Return where each partition is drawn: at its percentage or, beside shots, at its images."""
    rows = table[["partition", "n_train"]].drop_duplicates("partition")
    if any_shots(rows["partition"]):
        rows = table[["partition", "n_train"]].dropna().drop_duplicates("partition")
        return dict(zip(rows["partition"], rows["n_train"].astype(float), strict=True))
    return dict(zip(rows["partition"], rows["partition"], strict=True))


def _set_partitions(axes: Axes, table: pd.DataFrame) -> None:
    """Scale and label the x axis; it is logarithmic if partitions span more than tenfold."""
    if table.empty:
        return
    rows = table.groupby("partition", sort=False)[["x", "n_train"]].first().sort_values("x")
    images, titles = rows["n_train"].astype("string").fillna(""), [*map(titled, rows.index)]
    partitions = rows["x"].to_list()
    spread = partitions[-1] > 10 * partitions[0]
    if spread:
        axes.set_xscale("log")
    places = np.array([log10(p) if spread else p for p in partitions])
    margin = 0.06 * float(np.ptp(places)) or 1.0
    low, high = places[0] - margin, places[-1] + margin
    axes.set_xlim(*((10**low, 10**high) if spread else (low, high)))
    shown = _apart(places / (high - low))
    axes.set_xticks(
        [partitions[i] for i in shown], [f"{titles[i]}\n{images.iloc[i]}" for i in shown]
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("training split used, and its number of images")


def _apart(places: Sequence[float]) -> list[int]:
    """Choose the places to label, from the last down, each far enough from the one above."""
    shown = [len(places) - 1]
    for index in range(len(places) - 2, -1, -1):
        if places[shown[-1]] - places[index] >= LABEL_GAP:
            shown.append(index)
    return shown[::-1]
