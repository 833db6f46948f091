"""The accuracy table as text: one row per partition (and encoder), one column per method."""

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
    """A table of accuracies: its title, its header and its rows."""

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


@dataclass(frozen=True)
class TableRow:
    """A row of the table: a partition, or what one of several encoders reaches there.

    Attributes:
        of: the run that it is a row of: an encoder's own, where there are several.
        encoder: its name; empty where there is one.
        columns: the methods as the whole run calls them.
    """

    partition: Partition
    of: Run
    encoder: str
    columns: tuple[str, ...]


def table_rows(run: Run) -> list[TableRow]:
    """List the rows of the table, from few images to many, those of a partition together."""
    if not run.parts:
        return [TableRow(partition, run, "", run.methods) for partition in run.partitions]
    methods = plain_methods(run)
    columns = {name: tuple(f"{name}/{method}" for method in methods) for name in run.parts}
    return [
        TableRow(partition, part, name, columns[name])
        for partition in run.partitions
        for name, part in run.parts.items()
    ]


def plain_methods(run: Run) -> list[str]:
    """Return the methods, without their encoders where there are several."""
    parts = run.parts.values() or (run,)
    return [*dict.fromkeys(method for part in parts for method in part.methods)]


def accuracy_grid(run: Run, test_set: str = TEST) -> Grid:
    """Lay out the accuracies on the test split, or on a further set of test images."""
    metric = WORDS[run.metric]
    on = f"test {metric}" if test_set == TEST else f"{metric} on {test_set}"
    shots = any_shots(run.partitions)
    header = ["partition" if shots else "partition (%)", "train images", *plain_methods(run)]
    write, listed = titled if shots else named, table_rows(run)
    rows = [_row(run, row, write(row.partition), test_set) for row in listed]
    validation = [_images(row, lambda fit: fit.n_val) for row in listed]
    if run.parts:
        header.insert(2, "encoder")
        rows = [[*r[:2], GridCell(o.encoder), *r[2:]] for r, o in zip(rows, listed, strict=True)]
    if len({*validation} - {EMPTY}) > 1:
        header.insert(2, "validation images")
        rows = [[*r[:2], GridCell(n), *r[2:]] for r, n in zip(rows, validation, strict=True)]
    gains = [_gain(row.of, row.partition, test_set) for row in listed]
    if any(gains):
        header.append("gain (points)")
        rows = [[*row, GridCell(gain or EMPTY)] for row, gain in zip(rows, gains, strict=True)]
    return Grid(f"{run.name}: {on} (%)", header, rows)


def _row(run: Run, row: TableRow, name: str, test_set: str) -> list[GridCell]:
    """Return a row without its gain; the best is by validation, as test must not select."""
    best = run.best.get(row.partition)
    cells = [GridCell(name), GridCell(_images(row, lambda fit: fit.n_train))]
    for method in row.columns:
        scores = run.scores(row.partition, method, test_set)
        text = scores.interval().points() if scores else EMPTY
        cells.append(GridCell(text, bold=method == best))
    return cells


def _images(row: TableRow, count: Callable[[FinalFitResult], int]) -> str:
    """Write how many images the final fits of a row had."""
    fits = [fit for method in row.of.methods for fit in row.of.final_fits(row.partition, method)]
    return span([count(fit) for fit in fits], str) if fits else EMPTY


def _gain(run: Run, partition: Partition, test_set: str) -> str | None:
    if run.compared is None or run.baseline is None or run.compared == run.baseline:
        return None
    gain = run.difference(partition, run.compared, run.baseline, test_set)
    return gain.points(sign="+") if gain else None
