"""The one table that `make bench` prints."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

HEADER = (
    "| what | who | seconds | of that overhead | times ours | bound | the same? | peak memory |\n"
    "|---|---|---:|---:|---:|---:|---|---:|"
)


@dataclass(frozen=True)
class Row:
    """How long somebody takes for something.

    Attributes:
        what, who: a thing to do, and who does it.
        seconds: measured; `extrapolated` from at least two measured epochs where it says so.
        ratio: seconds over ours.
        bound: the ratio if each took the least time that FLOPs and bytes allow.
        overhead: seconds that are not a suffix's arithmetic.
        same: how it was checked that the work is the same.
        memory: peak sum of PSS, in bytes.
    """

    what: str
    who: str
    seconds: float
    ratio: float | None = None
    bound: float | None = None
    overhead: float | None = None
    same: str = ""
    memory: int | None = None
    extrapolated: bool = False

    def markdown(self) -> str:
        seconds = _number(self.seconds) + (" (extrapolated)" if self.extrapolated else "")
        cells = (
            *(self.what, self.who, seconds),
            "" if self.overhead is None else _number(self.overhead),
            "" if self.ratio is None else f"**{_number(self.ratio)}**",
            "" if self.bound is None else _number(self.bound),
            self.same,
            "" if self.memory is None else f"{self.memory / 1e9:.2f} GB",
        )
        return "| " + " | ".join(cells) + " |"


def table(rows: Iterable[Row]) -> str:
    return "\n".join([HEADER, *(row.markdown() for row in rows)])


def _number(value: float) -> str:
    """Three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
