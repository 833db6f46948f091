"""The report of a run: its table, its trials and its plot, made from the run's files alone.

    python -m report results/digits

rewrites `accuracy_table.csv`, `accuracy_table.md`, `trials.csv` and `accuracy.png`. The room
reads `experiment.yaml`, `events.jsonl`, `final_fits/*.json` and `skipped_images.csv`; it knows
nothing of Ray or torch, so a report can be made wherever the directory was copied to.
"""

from report.words import describe
from report.write import Report, write_report

__all__ = ["Report", "describe", "write_report"]
