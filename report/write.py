"""Write the files of a run's report; each appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

from files import replacing
from records import ACCURACY, GRADIENTS, PAGE, PLOT, SUMMARY, TRIALS
from report.gradients import gradients_table
from report.html.page import render_run
from report.run import Run, read_run
from report.summary import Summary, summarise
from report.table import accuracy_table, to_csv, trials_table


def write_report(run_dir: Path) -> Summary:
    """Read a run's files, and write its tables, its plot and its page beside them.

    It works at any time: cells without a result are empty, and a note names them.

    Raises:
        InputError: `run_dir` is not a run's directory, or a file cannot be understood.
    """
    run = read_run(run_dir)
    return write_run(run)


def write_run(run: Run) -> Summary:
    """Write the tables, the plot and the page of a run that was read."""
    from report.plot import draw_accuracy  # Matplotlib is slow to import, and for a run's end

    run_dir = run.directory
    table, summary = accuracy_table(run), summarise(run)
    texts = {
        ACCURACY.file: to_csv(table, float_format="%.6f"),
        SUMMARY: summary.markdown(),
        TRIALS.file: to_csv(trials_table(run)),
        PAGE: render_run(run, summary),
    }
    gradients = gradients_table(run)
    if not gradients.empty:
        texts[GRADIENTS.file] = to_csv(gradients, float_format="%.6g")
    for name, text in texts.items():
        with replacing(run_dir / name) as path:
            path.write_text(text, encoding="utf-8")
    with replacing(run_dir / PLOT) as path:
        draw_accuracy(table, run.name, path)
    return summary
