"""What the sections share: numbers in words, and the row that they look at."""

from __future__ import annotations

from math import sqrt

from partitions import Shots, titled
from records import Cell, Winner
from report.enough import images_of
from report.formatting import describe
from report.intervals import Interval
from report.run import Run

Z = 1.959964  # standard errors of a 95% interval


def percent(fraction: float, digits: int = 1) -> str:
    """Write a fraction in percent: `79.1%`."""
    return f"{100 * fraction:.{digits}f}%"


def span_of(interval: Interval) -> str:
    """Write the interval of an accuracy within 0 to 100: `78.2 to 80.0`."""
    half = interval.half_width or 0.0
    low, high = max(interval.mean - half, 0.0), min(interval.mean + half, 1.0)
    return f"{100 * low:.1f} to {100 * high:.1f}"


def counted(number: float, noun: str, plural: str = "") -> str:
    """Write a number of things: `1 image`, `1,240 images`."""
    return f"{number:,.0f} {noun if round(number) == 1 else plural or f'{noun}s'}"


def wilson(right: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95% interval of a share (1927); 0 to 1 without observations."""
    if n <= 0:
        return 0.0, 1.0
    share = right / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * sqrt(max(share * (1 - share) / n + Z**2 / (4 * n**2), 0.0))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def largest(run: Run) -> Cell | None:
    """Return the best method's cell at the partition with the most training images."""
    cells = [Cell(partition, method) for partition, method in run.best.items()]
    return max(cells, key=lambda cell: images_of(run, *cell), default=None)


def share_of(run: Run, cell: Cell) -> str:
    """Say how many images a cell was trained on: `10% of your labels (264 images)`."""
    images = counted(images_of(run, *cell), "image")
    if isinstance(cell.partition, Shots):
        number = cell.partition.number
        return f"{counted(number, 'image')} of each class ({images} in all)"
    if cell.partition == 100:
        return f"all your labels ({images})"
    return f"{titled(cell.partition)} of your labels ({images})"


def settings(winner: Winner | None) -> str:
    """Describe a winner's configuration; empty without a winner."""
    return describe(winner.config, winner.kind) if winner else ""
