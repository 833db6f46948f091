"""The one table that `make bench` prints."""

from __future__ import annotations

from dataclasses import dataclass

HEADER = (
    "| what | who | seconds | of that overhead | times ours | bound | the same? | peak memory |\n"
    "|---|---|---:|---:|---:|---:|---|---:|"
)


@dataclass(frozen=True)
class Row:
    """The time that one program takes for one task.

    Attributes:
        what: the task.
        who: the program.
        seconds: measured, or extrapolated from at least two measured epochs.
        ratio: seconds divided by ours.
        bound: the ratio if both took the least time that FLOPs and bytes allow.
        overhead: seconds outside the arithmetic of suffixes.
        same: the check that both do the same work.
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
        """Return the row in Markdown, below `HEADER`."""
        seconds = _number(self.seconds) + (" (extrapolated)" if self.extrapolated else "")
        cells = (
            self.what,
            self.who,
            seconds,
            "" if self.overhead is None else _number(self.overhead),
            "" if self.ratio is None else f"**{_number(self.ratio)}**",
            "" if self.bound is None else _number(self.bound),
            self.same,
            "" if self.memory is None else f"{self.memory / 1e9:.2f} GB",
        )
        return "| " + " | ".join(cells) + " |"


def _number(value: float) -> str:
    """Format a number with three significant digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
