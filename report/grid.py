"""The accuracy table as text: one row per partition, one column per method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from errors import one_line
from metrics import WORDS
from partitions import Partition, any_shots, named, titled
from records import TEST, FinalFitResult
from report.formatting import span
from report.run import Run
from terminal import as_lines, fits, legible, say
from text import markdown

EMPTY = "–"


@dataclass(frozen=True)
class GridCell:
    """A cell's text, and whether it is bold."""

    text: str
    bold: bool = False


@dataclass(frozen=True)
class Column:
    """A further column, which is shown in Markdown only."""

    heading: str
    cells: Sequence[str]
    align: str = "---:"


@dataclass(frozen=True)
class Grid:
    """A table of accuracies: its title, its header and one row per partition."""

    title: str
    header: list[str]
    rows: list[list[GridCell]]

    def markdown(self, further: Sequence[Column] = ()) -> list[str]:
        """Return the lines of a Markdown table, with the further columns on the right."""
        header = [*self.header, *(column.heading for column in further)]
        align = ["---:"] * len(self.header) + [column.align for column in further]
        rows = [
            [f"**{markdown(cell.text)}**" if cell.bold else markdown(cell.text) for cell in row]
            + [markdown(column.cells[place]) for column in further]
            for place, row in enumerate(self.rows)
        ]
        return [f"| {' | '.join(row)} |" for row in ([*map(markdown, header)], align, *rows)]

    def render(self, console: Console) -> None:
        """Print the table, narrower if the console is; no figure of it is broken.

        It loses its padding, then has intervals below their means, then has a line for each row.
        """
        for interval, narrow in ((" ± ", False), ("±", True), ("\n±", True)):
            table = self._table(console.encoding, interval, narrow)
            if fits(console, table):
                console.print(table)
                return
        say(console, self.title, "bold", wrap=True)
        texts = ([cell.text.replace(" ± ", "±") for cell in row] for row in self.rows)
        for line in as_lines(self.header, texts):
            say(console, line, wrap=True)

    def _table(self, encoding: str, interval: str, narrow: bool) -> Table:
        def text(words: str, style: str = "") -> Text:
            return Text(legible(words, encoding), style)

        table = Table(
            title=text(one_line(self.title)),
            title_justify="left",
            title_style="bold",
            box=SIMPLE_HEAD,
            padding=0 if narrow else (0, 1),
            show_edge=False,
            pad_edge=False,
            collapse_padding=True,
        )
        for heading in self.header:
            stacked = heading.replace("_", "_\n") if narrow else heading
            table.add_column(text(stacked.replace(" ", "\n")), justify="right", vertical="bottom")
        for row in self.rows:
            texts = (cell.text.replace(" ± ", interval) for cell in row)
            bold = ("bold" if cell.bold else "" for cell in row)
            table.add_row(*map(text, texts, bold))
        return table


def accuracy_grid(run: Run, test_set: str = TEST) -> Grid:
    """Lay out the accuracies on the test split, or on a further set of test images."""
    metric = WORDS[run.metric]
    on = f"test {metric}" if test_set == TEST else f"{metric} on {test_set}"
    shots = any_shots(run.partitions)
    header = ["partition" if shots else "partition (%)", "train images", *run.methods]
    names = {partition: (titled if shots else named)(partition) for partition in run.partitions}
    rows = [_row(run, partition, name, test_set) for partition, name in names.items()]
    validation = [_images(run, partition, lambda fit: fit.n_val) for partition in run.partitions]
    if len({*validation} - {EMPTY}) > 1:
        header.insert(2, "validation images")
        rows = [[*r[:2], GridCell(n), *r[2:]] for r, n in zip(rows, validation, strict=True)]
    gains = [_gain(run, partition, test_set) for partition in run.partitions]
    if any(gains):
        header.append("gain (points)")
        rows = [[*row, GridCell(gain or EMPTY)] for row, gain in zip(rows, gains, strict=True)]
    return Grid(f"{run.name}: {on} (%)", header, rows)


def _row(run: Run, partition: Partition, name: str, test_set: str) -> list[GridCell]:
    """Return a row without its gain; the best is by validation, as test must not select."""
    best = run.best.get(partition)
    cells = [GridCell(name), GridCell(_images(run, partition, lambda fit: fit.n_train))]
    for method in run.methods:
        scores = run.scores(partition, method, test_set)
        text = scores.interval().points() if scores else EMPTY
        cells.append(GridCell(text, bold=method == best))
    return cells


def _images(run: Run, partition: Partition, count: Callable[[FinalFitResult], int]) -> str:
    """Write how many images the final fits of a row had."""
    fits = [fit for method in run.methods for fit in run.final_fits(partition, method)]
    return span([count(fit) for fit in fits], str) if fits else EMPTY


def _gain(run: Run, partition: Partition, test_set: str) -> str | None:
    if run.compared is None or run.baseline is None or run.compared == run.baseline:
        return None
    gain = run.difference(partition, run.compared, run.baseline, test_set)
    return gain.points(sign="+") if gain else None
