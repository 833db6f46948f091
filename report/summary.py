"""The report for people, in Markdown or a terminal: table, findings, warnings and notes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from report.device_seconds import row_cost
from report.findings import average_findings, drop_finding, findings
from report.formatting import describe
from report.grid import EMPTY, Column, Grid, accuracy_grid
from report.notes import notes
from report.run import Run
from report.warnings import warnings


@dataclass(frozen=True)
class ExtraTest:
    """The table of a further test set, and its findings."""

    grid: Grid
    findings: list[str]


@dataclass(frozen=True)
class Summary:
    """A run's table and the sentences under it.

    Attributes:
        seconds: device-seconds of each row.
        chosen: the method whose winners are described, if there is one.
        descriptions: the configurations of these winners, one for each row.
        heading: that of the findings.
        extra: the tables of the further test sets.
    """

    grid: Grid
    seconds: list[str]
    chosen: str | None
    descriptions: list[str]
    heading: str
    findings: list[str]
    extra: list[ExtraTest]
    warnings: list[str]
    notes: list[str]

    def markdown(self) -> str:
        """Return the report in Markdown; seconds and descriptions are the table's last columns."""
        further = [Column("device-seconds", self.seconds)]
        if self.chosen:
            further.append(Column(f"{self.chosen} winner", self.descriptions, align=":---"))
        lines = [f"# {self.grid.title}", "", *self.grid.markdown(further), ""]
        lines += _list(self.heading, self.findings)
        for test in self.extra:
            lines += [f"## {test.grid.title}", "", *test.grid.markdown(), ""]
            lines += _list(self.heading, test.findings)
        lines += _list("Warnings:", self.warnings)
        return "\n".join(lines + _list("Notes:", self.notes))

    def render(self, console: Console) -> None:
        """Print the table and what stands below it."""

        def say(lines: Iterable[str], style: str) -> None:
            for line in lines:
                console.print(Text(line, style=style))

        console.print(self.grid.terminal(console))
        if self.chosen:
            for row, words in zip(self.grid.rows, self.descriptions, strict=True):
                console.print(Text(f"{self.chosen} winner at {row[0].text}%: {words}"))
        say(self.findings, "bold")
        for test in self.extra:
            console.print(test.grid.terminal(console))
            say(test.findings, "bold")
        say((f"warning: {line}" for line in self.warnings), "yellow")
        say(self.notes, "dim")


def summarise(run: Run) -> Summary:
    """Make the report of a run."""
    chosen = run.compared or run.baseline
    return Summary(
        grid=accuracy_grid(run),
        seconds=[_seconds(row_cost(run, partition).spent) for partition in run.partitions],
        chosen=chosen,
        descriptions=[_describe(run, p, chosen) for p in run.partitions] if chosen else [],
        heading="What it shows:" if run.test_labels else "What it shows (intervals over seeds):",
        findings=findings(run),
        extra=[_extra_test(run, name) for name in run.extra_tests],
        warnings=warnings(run),
        notes=notes(run),
    )


def _extra_test(run: Run, name: str) -> ExtraTest:
    drop = drop_finding(run, name)
    averages = average_findings(run, run.baseline, name) if run.baseline else []
    return ExtraTest(accuracy_grid(run, name), [*([drop] if drop else []), *averages])


def _describe(run: Run, partition: float, method: str) -> str:
    winner = run.winner(partition, method)
    return describe(winner.config, winner.kind) if winner else EMPTY


def _seconds(seconds: float) -> str:
    if not seconds:
        return EMPTY
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"


def _list(heading: str, lines: list[str]) -> list[str]:
    return [heading, "", *(f"- {line}" for line in lines), ""] if lines else []
