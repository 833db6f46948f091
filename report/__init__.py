"""The report of a run: its tables, what they show and its plot, made from the run's files alone.

    python -m report results/digits

rewrites `accuracy_table.csv`, `accuracy_table.md`, `trials.csv`, `accuracy.png` and, where the
final fits recorded gradient norms, `gradients.csv`. The room reads `experiment.yaml`,
`events.jsonl`, `final_fits/*.json`, and where they are there `test_images.csv`, `importance.csv`,
`duplicates.csv` and `skipped_images.csv`. It knows nothing of Ray or torch, so a report can be
made wherever the directory was copied to.

An interval joins two independent sources, each at 95%: the final seeds (`intervals.t_interval`)
and the draw of test images (`intervals.over_images`), or of their groups where the source names
some (`intervals.over_groups`). `scores.py` pairs methods by both,
`sentences.py` says what that shows, `summary.py` lays it out, `footer.py` adds what the table
would hide, with the help of `winners.py`, `gradients.py` and `cost.py`.
"""

from report.formatting import describe
from report.write import Report, write_report

__all__ = ["Report", "describe", "write_report"]
