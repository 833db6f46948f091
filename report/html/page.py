"""The page of a run: its sections, put into the template."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from metrics import WORDS
from records import PAGE
from report.html.accuracy import accuracy_charts
from report.html.answer import answer, extra_tests, table
from report.html.calibration import calibration
from report.html.charts import plain
from report.html.data import data
from report.html.encoders import encoders
from report.html.errors import errors
from report.html.labelling import labelling
from report.html.reproduce import reproduce
from report.html.search import search
from report.pictures import Gallery
from report.run import Run
from report.summary import Summary

LONGEST = 2000  # characters of any text on the page
SECTIONS = {
    "table": "Table",
    "accuracy": "Accuracy",
    "encoders": "Encoders",
    "errors": "Where it errs",
    "data": "The data",
    "calibration": "Calibration",
    "labelling": "How many more",
    "search": "The search",
    "cost": "Cost",
    "notes": "Notes",
}


def render_run(run: Run, summary: Summary) -> str:
    """Return a run's page as HTML; sections for which the run has nothing are left out."""
    gallery = Gallery(run)
    sections: dict[str, Any] = {
        "table": table(run),
        "accuracy": accuracy_charts(run),
        "encoders": encoders(run),
        "errors": errors(run, gallery),
        "data": data(run, gallery),
        "calibration": calibration(run),
        "labelling": labelling(run),
        "search": search(run),
        "cost": reproduce(run),
        "notes": summary.notes,
    }
    return render(
        "run.html",
        title=f"{run.name}: {summary.answer}",
        name=run.name,
        folder=shlex.quote(str(run.directory)),
        metric=WORDS[run.metric],
        answer=answer(run),
        contents=[(id, heading) for id, heading in SECTIONS.items() if sections[id]],
        findings=summary.findings,
        missing=summary.missing,
        warnings=summary.warnings,
        extra_tests=extra_tests(run),
        **sections,
    )


def render_in_notebook(run: Run, missing: list[str]) -> str:
    """Return a run's answer and table as HTML, for a notebook's own style."""
    return render(
        "notebook.html",
        answer=answer(run),
        table=table(run),
        metric=WORDS[run.metric],
        missing=missing,
        page=str(run.directory / PAGE),
    )


def render(template: str, **context: Any) -> str:
    """Fill in a template of this folder; every text is escaped, on one line and legible."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_legible,
    )
    return environment.get_template(template).render(**context)


def _legible(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return plain(value, LONGEST)
    return value
