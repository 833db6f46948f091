"""Charts as SVG, drawn by hand; every mark has a tooltip, and no text is read as markup."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import isfinite, log

from markupsafe import Markup

from errors import one_line

LEFT, RIGHT, TOP, BOTTOM = 52.0, 118.0, 14.0, 46.0
GAP = 15.0  # between the names of two lines
LONGEST_NAME = 22
LETTER = 7.0  # pixels of a letter, at most
SMALLEST, LARGEST = 0.85, 1.25  # times by which the page scales a picture


@dataclass(frozen=True)
class Axis:
    """An axis: its ends, its ticks as (value, text), and its title."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str = ""
    log: bool = False

    def place(self, value: float) -> float:
        """Return where a value lies between the axis's ends, from 0 to 1."""
        low, high = self.low, self.high
        at = min(max(value, min(low, high)), max(low, high))
        if self.log:
            low, high, at = log(low), log(high), log(at)
        return (at - low) / (high - low) if high != low else 0.5


@dataclass(frozen=True)
class Point:
    """A point of a series, the ends of its interval if it has one, and its tooltip."""

    x: float
    y: float
    low: float | None = None
    high: float | None = None
    title: str = ""


@dataclass(frozen=True)
class Series:
    """A line, or marks alone, in one of the page's tones (`accent`, `s1` … `s6`, `muted`)."""

    name: str
    points: Sequence[Point]
    tone: str = "accent"
    line: bool = True
    marks: bool = True
    band: bool = False  # draws intervals as a band
    named: bool = True


@dataclass(frozen=True)
class Frame:
    """The place of a chart's axes in the picture."""

    x: Axis
    y: Axis
    width: float
    height: float
    right: float

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return where a point lies in the picture."""
        across = LEFT + self.x.place(x) * (self.width - LEFT - self.right)
        down = self.height - BOTTOM - self.y.place(y) * (self.height - TOP - BOTTOM)
        return round(across, 1), round(down, 1)


def chart(
    label: str,
    x: Axis,
    y: Axis,
    series: Sequence[Series],
    *,
    width: float = 720.0,
    height: float = 340.0,
    dodge: float = 0.0,
) -> Markup:
    """Draw series over two axes; a line's name stands at its end.

    The label is for those who cannot see the picture. Marks of two series at one place are `dodge`
    pixels apart.
    """
    named = any(one.named for one in series)
    frame = Frame(x, y, width, height, RIGHT if named else 20.0)
    parts = [_axes(frame)]
    for place, one in enumerate(series):
        shift = dodge * (place - (len(series) - 1) / 2)
        parts.append(_series(frame, one, shift))
    parts.append(_names(frame, [one for one in series if one.named and one.points]))
    return _picture(label, width, height, Markup().join(parts))


def bars(label: str, rows: Sequence[tuple[str, float, str]], *, width: float = 640.0) -> Markup:
    """Draw horizontal bars from (name, value, text) rows; the longest value fills the width."""
    most = max((value for _, value, _ in rows), default=0.0) or 1.0
    left = 16 + LETTER * max((len(plain(name, LONGEST_NAME)) for name, _, _ in rows), default=0)
    room = 16 + LETTER * max((len(text) for _, _, text in rows), default=0)
    parts = []
    for place, (name, value, text) in enumerate(rows):
        top, long = 26.0 * place, max((width - left - room) * value / most, 1.0)
        parts.append(
            Markup(
                '<g><title>{}: {}</title><text class="name" x="{}" y="{}" text-anchor="end">{}'
                '</text><rect class="bar" x="{}" y="{}" width="{}" height="14" rx="3"/>'
                '<text x="{}" y="{}">{}</text></g>'
            ).format(
                *(plain(name), plain(text), _short(left - 10), top + 17),
                *(plain(name, LONGEST_NAME), _short(left), top + 6, _short(long)),
                *(_short(left + long + 8), top + 17, plain(text)),
            )
        )
    return _picture(label, width, 26.0 * len(rows) + 8, Markup().join(parts))


def matrix(
    label: str,
    names: Sequence[str],
    cells: Sequence[Sequence[float]],
    titles: Sequence[Sequence[str]],
) -> Markup:
    """Draw a square of shares from 0 to 1: true classes are rows, predicted ones columns."""
    size = max(16.0, min(40.0, 520 / max(len(names), 1)))
    longest = max((len(plain(name, LONGEST_NAME)) for name in names), default=0)
    left, top = 16 + LETTER * longest, 24 + 0.8 * LETTER * longest
    parts = []
    for place, name in enumerate(names):
        middle = (place + 0.5) * size
        short = plain(name, LONGEST_NAME)
        parts.append(
            Markup(
                '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
                '<text class="tick" transform="translate({} {}) rotate(-50)">{}</text>'
            ).format(left - 8, top + middle + 4, short, left + middle, top - 8, short)
        )
    for row, values in enumerate(cells):
        for column, value in enumerate(values):
            if value <= 0:
                continue
            tone = "right" if row == column else "wrong"
            figure = f"{100 * value:.0f}" if size >= 24 and value >= 0.005 else ""
            parts.append(
                Markup(
                    '<g class="{}"><title>{}</title><rect x="{}" y="{}" width="{}" height="{}" '
                    'rx="3" fill-opacity="{}"/><text class="{}" x="{}" y="{}" '
                    'text-anchor="middle">{}</text></g>'
                ).format(
                    *(tone, plain(titles[row][column]), _short(left + column * size + 1)),
                    *(_short(top + row * size + 1), _short(size - 2), _short(size - 2)),
                    _short(0.12 + 0.88 * value**0.6),
                    "figure on" if value > 0.35 else "figure",
                    *(_short(left + (column + 0.5) * size), _short(top + (row + 0.5) * size + 4)),
                    figure,
                )
            )
    grid = Markup('<rect class="plate" x="{}" y="{}" width="{}" height="{}" rx="6"/>').format(
        left - 2, top - 2, _short(size * len(names) + 4), _short(size * len(names) + 4)
    )
    side = left + size * len(names) + 24 + 0.65 * LETTER * longest
    return _picture(label, side, top + size * len(names) + 10, grid + Markup().join(parts))


def linear(low: float, high: float, title: str, unit: str = "", most: int = 6) -> Axis:
    """Make an axis whose ticks are round numbers."""
    if not high > low:
        low, high = low - 1.0, high + 1.0
    rough = (high - low) / most
    power = 10.0 ** _floor_log10(rough)
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= rough * 0.999)
    first, last = int(-(-low // step)), int(high // step)
    digits = max(0, -_floor_log10(step))
    ticks = [(n * step, f"{n * step:.{digits}f}{unit}") for n in range(first, last + 1)]
    return Axis(low, high, ticks, title)


def images_axis(counts: Sequence[float], title: str = "training images") -> Axis:
    """Make an axis of numbers of images, which is logarithmic if they span more than fivefold."""
    found = sorted({*counts}) or [1.0, 10.0]
    low, high = found[0], found[-1]
    spread = low > 0 and high > 5 * low
    axis = Axis(low * 0.9, high * 1.1, [], title, log=spread)
    if not spread:
        margin = 0.06 * (high - low) or 1.0
        axis = Axis(low - margin, high + margin, [], title)
    kept: list[float] = []
    for value in reversed(found):
        if not kept or axis.place(kept[-1]) - axis.place(value) > 0.07:
            kept.append(value)
    return replace(axis, ticks=[(value, f"{value:,.0f}") for value in reversed(kept)])


def plain(text: str, most: int = 300) -> str:
    """Return a text as one line without control characters; `Markup.format` escapes it."""
    return one_line(text, most)


def _axes(frame: Frame) -> Markup:
    left, floor = frame.at(frame.x.low, frame.y.low)
    end, _ = frame.at(frame.x.high, frame.y.high)
    parts = []
    for value, text in frame.y.ticks:
        _, y = frame.at(frame.x.low, value)
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<text class="tick" x="{}" y="{}" text-anchor="end">{}</text>'
            ).format(left, end, y, y, left - 8, y + 4, plain(text))
        )
    for value, text in frame.x.ticks:
        x, _ = frame.at(value, frame.y.low)
        parts.append(
            Markup(
                '<line class="grid" x1="{}" x2="{}" y1="{}" y2="{}"/>'
                '<text class="tick" x="{}" y="{}" text-anchor="middle">{}</text>'
            ).format(x, x, floor, floor + 4, x, floor + 18, plain(text))
        )
    title = Markup('<text class="axis" x="{}" y="{}" text-anchor="middle">{}</text>').format(
        (left + end) / 2, frame.height - 6, plain(frame.x.title)
    )
    base = Markup('<line class="base" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
        left, end, floor, floor
    )
    return Markup().join(parts) + title + base


def _series(frame: Frame, series: Series, shift: float) -> Markup:
    placed = [(point, *frame.at(point.x, point.y)) for point in series.points if isfinite(point.y)]
    placed = [(point, x + shift, y) for point, x, y in placed]
    parts = [_band(frame, series)] if series.band else []
    if series.line and len(placed) > 1:
        path = " ".join(f"{_short(x)},{_short(y)}" for _, x, y in placed)
        parts.append(Markup('<polyline class="line" points="{}"/>').format(path))
    for point, x, y in placed:
        whisker = Markup()
        if point.low is not None and point.high is not None and not series.band:
            ends = frame.at(point.x, point.low)[1], frame.at(point.x, point.high)[1]
            whisker = Markup('<line class="whisker" x1="{}" x2="{}" y1="{}" y2="{}"/>').format(
                _short(x), _short(x), *ends
            )
        if series.marks:
            parts.append(
                Markup('<g><title>{}</title>{}<circle cx="{}" cy="{}" r="3.6"/></g>').format(
                    plain(point.title), whisker, _short(x), _short(y)
                )
            )
    return Markup('<g class="series {}">{}</g>').format(series.tone, Markup().join(parts))


def _band(frame: Frame, series: Series) -> Markup:
    points = [p for p in series.points if p.low is not None and p.high is not None]
    above = [frame.at(p.x, p.high or 0.0) for p in points]
    below = [frame.at(p.x, p.low or 0.0) for p in reversed(points)]
    path = " ".join(f"{x},{y}" for x, y in above + below)
    return Markup('<polygon class="band" points="{}"/>').format(path)


def _names(frame: Frame, series: Sequence[Series]) -> Markup:
    """Write each line's name at its end, moved apart where two would cover each other."""
    ends = sorted(
        (frame.at(s.points[-1].x, s.points[-1].y)[1], place) for place, s in enumerate(series)
    )
    places = [y for y, _ in ends]
    for _ in range(3):
        for upper, lower in pairwise(range(len(places))):
            places[lower] = max(places[lower], places[upper] + GAP)
        if places and (over := places[-1] - (frame.height - BOTTOM + 4)) > 0:
            places = [y - over for y in places]
    return Markup().join(
        Markup('<text class="end {}" x="{}" y="{}">{}</text>').format(
            series[place].tone,
            frame.width - frame.right + 14,
            _short(y + 4),
            plain(series[place].name, 16),
        )
        for y, (_, place) in zip(places, ends, strict=True)
    )


def _picture(label: str, width: float, height: float, inside: Markup) -> Markup:
    """Frame a picture; on a phone it keeps a legible size, and its box scrolls."""
    return Markup(
        '<div class="chart"><svg viewBox="0 0 {} {}" role="img" aria-label="{}" '
        'style="min-width:{:.0f}px;max-width:{:.0f}px">{}</svg></div>'
    ).format(
        *(_short(width), _short(height), plain(label)),
        *(min(SMALLEST * width, 560.0), LARGEST * width, inside),
    )


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0") if abs(value) >= 1.5 else f"{value:.2f}"


def _floor_log10(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
