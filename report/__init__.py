"""The report of a run: its tables, findings, notes and plot, made from the run's files alone.

    python -m report results/digits

rewrites `accuracy_table.csv`, `accuracy_table.md`, `trials.csv`, `accuracy.png` and, if the final
fits recorded gradient norms, `gradients.csv`. It reads `experiment.yaml`, `events.jsonl`,
`final_fits/*.json` and, if they exist, `test_images.csv`, `importance.csv`, `duplicates.csv` and
`skipped_images.csv`. It needs neither Ray nor torch, so a report can be made on any machine.

`run.py` holds what was read. `intervals.py` and `scores.py` compute the numbers; `grid.py`,
`findings.py`, `warnings.py` and `notes.py` (with `winners.py`, `gradients.py` and
`device_seconds.py`) turn them into text, and `summary.py` puts it together.
"""

from report.formatting import describe
from report.write import Report, write_report

__all__ = ["Report", "describe", "write_report"]
