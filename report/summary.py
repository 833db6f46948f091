"""The report for people: the table, what it shows, and its footer; in Markdown or a terminal."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from report.device_seconds import row_cost
from report.findings import drop_line, in_the_mean, sentences
from report.formatting import describe
from report.grid import EMPTY, Column, Grid, accuracy_grid
from report.notes import footer_lines
from report.run import Run
from report.warnings import warning_lines


@dataclass(frozen=True)
class ExtraTest:
    """The table of a further set of test images, and what it shows."""

    grid: Grid
    findings: list[str]


@dataclass(frozen=True)
class Summary:
    """A run's table: numbers, the chosen configurations in words, findings, warnings, a footer.

    Attributes:
        seconds: device-seconds, a string a row.
        chosen: whose configurations `words` tells, a string a row; None where nothing won yet.
        findings: what the table shows, in sentences; `shows` is their heading.
    """

    grid: Grid
    seconds: list[str]
    chosen: str | None
    words: list[str]
    shows: str
    findings: list[str]
    extra: list[ExtraTest]
    warnings: list[str]
    footer: list[str]

    def markdown(self) -> str:
        """Return the report in Markdown, seconds and words as the table's last columns."""
        further = [Column("device-seconds", self.seconds)]
        if self.chosen:
            further.append(Column(f"{self.chosen} winner", self.words, align=":---"))
        lines = [f"# {self.grid.title}", "", *self.grid.markdown(further), ""]
        lines += _list(self.shows, self.findings)
        for test in self.extra:
            lines += [f"## {test.grid.title}", "", *test.grid.markdown(), ""]
            lines += _list(self.shows, test.findings)
        lines += _list("Warnings:", self.warnings)
        return "\n".join(lines + _list("Notes:", self.footer))

    def render(self, console: Console) -> None:
        """Print the table, then what no terminal is wide enough for."""
        console.print(self.grid.terminal(console))
        if self.chosen:
            for row, words in zip(self.grid.rows, self.words, strict=True):
                console.print(Text(f"{self.chosen} winner at {row[0].text}%: {words}"))
        for line in self.findings:
            console.print(Text(line, style="bold"))
        for test in self.extra:
            console.print(test.grid.terminal(console))
            for line in test.findings:
                console.print(Text(line, style="bold"))
        for line in self.warnings:
            console.print(Text(f"warning: {line}", style="yellow"))
        for line in self.footer:
            console.print(Text(line, style="dim"))


def summarise(run: Run) -> Summary:
    """Lay a run out for people."""
    chosen = run.compared or run.baseline
    return Summary(
        grid=accuracy_grid(run),
        seconds=[_seconds(row_cost(run, partition).spent) for partition in run.partitions],
        chosen=chosen,
        words=[_words(run, partition, chosen) for partition in run.partitions] if chosen else [],
        shows="What it shows:" if run.test_labels else "What it shows, of the seeds alone:",
        findings=sentences(run),
        extra=[_extra_test(run, name) for name in run.extra_tests],
        warnings=warning_lines(run),
        footer=footer_lines(run),
    )


def _extra_test(run: Run, name: str) -> ExtraTest:
    drop = drop_line(run, name)
    means = in_the_mean(run, run.baseline, name) if run.baseline else []
    return ExtraTest(accuracy_grid(run, name), [*([drop] if drop else []), *means])


def _words(run: Run, partition: float, method: str) -> str:
    winner = run.winner(partition, method)
    return describe(winner.config) if winner else EMPTY


def _seconds(seconds: float) -> str:
    if not seconds:
        return EMPTY
    return f"{seconds:.0f}" if seconds >= 10 else f"{seconds:.1f}"


def _list(heading: str, lines: list[str]) -> list[str]:
    return [heading, "", *(f"- {line}" for line in lines), ""] if lines else []
