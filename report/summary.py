"""The report for people, in Markdown or a terminal: table, findings, warnings and notes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from records import BEST, PAGE
from report.device_seconds import row_cost
from report.findings import average_findings, drop_finding, findings
from report.formatting import describe
from report.grid import EMPTY, Column, Grid, TableRow, accuracy_grid, table_rows
from report.html.answer import answer
from report.notes import notes
from report.run import Run
from report.warnings import warnings, without_result
from terminal import say
from text import markdown

MOST_LINES = 8  # below the table on a terminal


@dataclass(frozen=True)
class ExtraTest:
    """The table of a further test set, and its findings."""

    grid: Grid
    findings: list[str]


@dataclass(frozen=True)
class Summary:
    """A run's table and the sentences under it.

    Attributes:
        answer: what to do, in two sentences.
        page: the path of the run's page.
        seconds: device-seconds of each row.
        best: of each row, the best method and its winner's configuration.
        heading: that of the findings.
        extra: the tables of the further test sets.
        missing: warnings of cells without a result, and why.
    """

    answer: str
    page: Path
    grid: Grid
    seconds: list[str]
    best: list[str]
    heading: str
    findings: list[str]
    extra: list[ExtraTest]
    missing: list[str]
    warnings: list[str]
    notes: list[str]

    def markdown(self) -> str:
        """Return the report in Markdown; seconds and best methods are the table's last columns."""
        further = [
            Column("device-seconds", self.seconds),
            Column(BEST, self.best, align=":---"),
        ]
        lines = [f"# {markdown(self.grid.title)}", "", *self.grid.markdown(further), ""]
        lines += _list(self.heading, self.findings)
        for test in self.extra:
            lines += [f"## {markdown(test.grid.title)}", "", *test.grid.markdown(), ""]
            lines += _list(self.heading, test.findings)
        lines += _list("Warnings:", [*self.missing, *self.warnings])
        return "\n".join(lines + _list("Notes:", self.notes))

    def render(self, console: Console) -> None:
        """Print the answer, the table, what matters most, and where the rest is.

        Warnings come before findings; what is left out is in the files.
        """
        say(console, self.answer, "bold", wrap=True)
        self.grid.render(console)
        warned = [f"warning: {line}" for line in (*self.missing, *self.warnings)]
        found = [*self.findings, *(line for test in self.extra for line in test.findings)]
        styled = [(line, "yellow") for line in warned] + [(line, "") for line in found]
        for line, style in styled[:MOST_LINES]:
            say(console, line, style, wrap=True)
        say(console, f"The rest, with pictures: {self.page}", "dim")


def summarise(run: Run) -> Summary:
    """Make the report of a run."""
    rows = table_rows(run)
    return Summary(
        answer=answer(run).text,
        page=run.directory / PAGE,
        grid=accuracy_grid(run),
        seconds=[_seconds(row_cost(row.of, row.partition).spent) for row in rows],
        best=[_best(run, row) for row in rows],
        heading="What it shows:" if run.test_labels else "What it shows (intervals over seeds):",
        findings=findings(run),
        extra=[_extra_test(run, name) for name in run.extra_tests],
        missing=list(without_result(run)),
        warnings=warnings(run),
        notes=notes(run),
    )


def _extra_test(run: Run, name: str) -> ExtraTest:
    drop = drop_finding(run, name)
    averages = average_findings(run, run.baseline, name) if run.baseline else []
    return ExtraTest(accuracy_grid(run, name), [*([drop] if drop else []), *averages])


def _best(run: Run, row: TableRow) -> str:
    method = run.best.get(row.partition)
    winner = run.winner(row.partition, method) if method in row.columns else None
    return f"{method}: {describe(winner.config, winner.kind)}" if winner else EMPTY


def _seconds(seconds: float) -> str:
    if not seconds:
        return EMPTY
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"


def _list(heading: str, lines: list[str]) -> list[str]:
    return [heading, "", *(f"- {markdown(line)}" for line in lines), ""] if lines else []
