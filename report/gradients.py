"""Gradient norms of the final fits by layer group and kind, and whether they vanish with depth."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from statistics import fmean

import pandas as pd

from partitions import Partition
from records import GRADIENTS
from report.formatting import listed, span
from report.run import Run

VANISHING = 0.01  # a ratio below it, lowest over highest trained block, is called vanishing


def gradients_table(run: Run) -> pd.DataFrame:
    """Return the mean norm over seeds, one row per (cell, layer group, kind)."""
    rows = [
        (*cell, layer_group, kind, norm)
        for cell in run.cells()
        for (layer_group, kind), norm in _norms(run, *cell).items()
    ]
    return pd.DataFrame(rows, columns=[*GRADIENTS.columns])


def gradient_notes(run: Run) -> Iterator[str]:
    """Compare the lowest trained block with the highest, for methods that train more than norms.

    Ranges are over partitions. A kind vanishes if its ratio is below 0.01 at any partition.
    """
    for method in run.methods:
        ratios: defaultdict[str, list[float]] = defaultdict(list)
        for partition in run.partitions:
            for kind, ratio in _ratios(_norms(run, partition, method)).items():
                ratios[kind].append(ratio)
        if not ratios.keys() & {"attn", "mlp", "conv"}:
            continue
        vanishing = [kind for kind, values in ratios.items() if min(values) < VANISHING]
        verdict = f"vanish in {listed(vanishing)}" if vanishing else "do not vanish"
        ranges = listed([f"{span(values, _short)} ({kind})" for kind, values in ratios.items()])
        yield (
            f"Gradients of {method} {verdict}: the norm of the lowest trained block over that of "
            f"the highest is {ranges}"
        )


def _norms(run: Run, partition: Partition, method: str) -> dict[tuple[str, str], float]:
    """Return (layer group, kind) -> mean norm over the seeds of one cell."""
    norms: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for fit in run.final_fits(partition, method):
        for layer_group, by_kind in fit.gradient_norms.items():
            for kind, norm in by_kind.items():
                norms[layer_group, kind].append(norm)
    return {key: fmean(values) for key, values in norms.items()}


def _ratios(norms: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return kind -> norm of its lowest block over that of its highest, if it has two."""
    blocks: defaultdict[str, dict[int, float]] = defaultdict(dict)
    for (layer_group, kind), norm in norms.items():
        if match := re.fullmatch(r"block (\d+)", layer_group):
            blocks[kind][int(match[1])] = norm
    return {
        kind: by_block[min(by_block)] / by_block[max(by_block)]
        for kind, by_block in blocks.items()
        if len(by_block) > 1 and by_block[max(by_block)] > 0
    }


def _short(ratio: float) -> str:
    """Write a ratio with one decimal, or one significant digit if it is small: 0.7, 12.0, 0.003."""
    return f"{ratio:.1f}" if ratio >= 0.1 else f"{ratio:.1g}"
