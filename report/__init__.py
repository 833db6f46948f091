"""The report of a run: its page, tables, findings, notes and plot, from the run's files alone.

    python run_search.py report results/digits

It needs neither Ray nor torch, so a report can be made on any machine. `run.py` holds what was
read. `intervals.py` and `scores.py` compute the numbers; `grid.py`, `findings.py`, `warnings.py`
and `notes.py` turn them into text, `summary.py` puts it together, `html/` makes
the page `report.html`, and `write.py` writes it all.
"""

from report.best import best_methods
from report.pictures import wanted
from report.run import read_run
from report.summary import Summary
from report.write import write_report

__all__ = ["Summary", "best_methods", "read_run", "wanted", "write_report"]
