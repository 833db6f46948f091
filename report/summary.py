"""The table for people: one row a partition, one column a method, in Markdown or a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from report.footer import footer_lines
from report.run_files import Run
from report.words import describe

EMPTY = "–"


@dataclass(frozen=True)
class Cell:
    """A cell's text, and whether it stands out."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Summary:
    """A run's table: numbers, the chosen configurations in words, and a footer.

    Attributes:
        chosen: whose configurations `words` tells, a string a row; None where nothing won yet.
    """

    title: str
    header: list[str]
    rows: list[list[Cell]]
    chosen: str | None
    words: list[str]
    footer: list[str]

    def markdown(self) -> str:
        """Return the table in Markdown, the words as its last column."""
        header, align = list(self.header), ["---:"] * len(self.header)
        rows = [[f"**{c.text}**" if c.bold else c.text for c in row] for row in self.rows]
        if self.chosen:
            header.append(f"{self.chosen} winner")
            align.append(":---")
            rows = [[*row, words] for row, words in zip(rows, self.words, strict=True)]
        table = [f"| {' | '.join(row)} |" for row in (header, align, *rows)]
        return "\n".join([f"# {self.title}", "", *table, "", *(f"- {n}" for n in self.footer), ""])

    def render(self, console: Console) -> None:
        """Print the table, then the words and the footer, which no terminal is wide enough for."""
        table = Table(
            title=self.title,
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for heading in self.header:
            stacked = Text(heading.replace(" ", "\n"))
            table.add_column(stacked, justify="right", vertical="bottom", overflow="fold")
        for row in self.rows:
            table.add_row(*(Text(cell.text, "bold" if cell.bold else "") for cell in row))
        console.print(table)
        if self.chosen:
            for row, words in zip(self.rows, self.words, strict=True):
                console.print(Text(f"{self.chosen} winner at {row[0].text}%: {words}"))
        for line in self.footer:
            console.print(Text(line, style="dim"))


def summarise(run: Run) -> Summary:
    """Lay a run out as a table for people."""
    header = ["partition (%)", "train images", *run.methods]
    rows = [_row(run, partition) for partition in run.partitions]
    gains = [_gain(run, partition) for partition in run.partitions]
    if any(gains):
        header.append("gain (points)")
        rows = [[*row, Cell(gain or EMPTY)] for row, gain in zip(rows, gains, strict=True)]
    chosen = run.compared or run.baseline
    words = [_words(run, partition, chosen) for partition in run.partitions] if chosen else []
    title = f"{run.name}: test accuracy (%)"
    return Summary(title, header, rows, chosen, words, footer_lines(run))


def _row(run: Run, partition: float) -> list[Cell]:
    """Return a row up to its gain; bold is the best by validation, as test must select nothing."""
    validation = {
        method: winner.val_accuracy
        for method in run.methods
        if (winner := run.winner(partition, method))
    }
    best = max(validation.values(), default=None)
    fits = [fit for method in run.methods for fit in run.final_fits(partition, method)]
    cells = [Cell(f"{partition:g}"), Cell(str(fits[0].n_train) if fits else EMPTY)]
    for method in run.methods:
        test = run.test_accuracy(partition, method)
        leads = method in validation and validation[method] == best
        cells.append(Cell(test.points(), bold=leads) if test else Cell(EMPTY))
    return cells


def _gain(run: Run, partition: float) -> str | None:
    if run.compared is None or run.baseline is None or run.compared == run.baseline:
        return None
    gain = run.test_difference(partition, run.compared, run.baseline)
    return gain.points(sign="+") if gain else None


def _words(run: Run, partition: float, method: str) -> str:
    winner = run.winner(partition, method)
    return describe(winner.config) if winner else EMPTY
