"""A data source in place of a search space file, as in `folder:PATH`."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from pathlib import Path, PurePath

from data import Dataset, SourceConfig
from data.amounts import different_amounts, sensible_amounts, three_of
from data.sources import SOURCES
from errors import InputError, did_you_mean, shown
from partitions import Shots
from records import EXPERIMENT
from search_spaces import Experiment
from search_spaces.extending import ENDINGS, READY

TABLES = (".csv", ".tsv", ".parquet")
LONGEST_NAME = 60


def as_source(text: str) -> str | None:
    """Return the data source that a word names; None if it names a YAML file.

    Raises:
        InputError: it is neither.
    """
    if text.lower().endswith(ENDINGS):
        return None
    kind, _, place = text.partition(":")
    is_file = os.path.isfile(text)
    if is_file and not text.lower().endswith(TABLES):
        return None
    if kind in SOURCES and bool(place.strip()) == bool(SOURCES[kind].place):
        return text
    allowed = ", ".join(":".join(filter(None, (k, s.place))) for k, s in SOURCES.items())
    if os.path.isdir(text):
        named = shlex.quote(f"folder:{text}")
        hint = f"it is a folder; with one folder of photos a class in it, write {named}; "
    elif is_file:
        hint = f"it is a table; write {shlex.quote(f'csv:{text}')}; "
    elif ":" in text:
        hint = did_you_mean(kind, SOURCES)
    else:
        hint = "there is no such file or folder; "
    raise InputError(
        f"{shown(text)}: neither a search space nor a source of images; {hint}"
        f"allowed: SPACE.yaml, {allowed}"
    )


def space_for(source: str) -> Path:
    """Find the ready search space for a source: the one of its kind, or else the one for photos."""
    own = READY / f"{source.partition(':')[0]}.yaml"
    return own if own.is_file() else READY / "folder.yaml"


def run_name(source: str) -> str:
    """Make the name of a run from the last word of its source, which may hold any character."""
    config = SourceConfig(source=source)
    place = (
        PurePath(config.path) if SOURCES[config.kind].place == "PATH" else PurePath(config.place)
    )
    word = place.stem if place.suffix.lower() in (*TABLES, ".tar") else place.name
    letters = unicodedata.normalize("NFKD", word).encode("ascii", "ignore").decode()
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", letters).strip("-._")
    name = re.sub(r"[-._]{2,}", "-", safe)
    return name[:LONGEST_NAME].rstrip("-._") or config.kind


def with_fitting_amounts(experiment: Experiment, dataset: Dataset, quick: bool) -> Experiment:
    """Choose how many of the images each row of the table takes."""
    rows = sensible_amounts(len(dataset.train), len(dataset.classes))
    rows = different_amounts(rows, dataset, experiment.seed)
    chosen = three_of(rows) if quick else rows
    shots = tuple(row.number for row in chosen if isinstance(row, Shots))
    percentages = tuple(row for row in chosen if not isinstance(row, Shots))
    data = experiment.data.model_copy(update={"shots": shots, "partitions": percentages})
    return experiment.model_copy(update={"data": data})


def described(experiment: Experiment, folder: Path) -> tuple[str, str]:
    """Say in two lines what is searched, and where all its settings will be."""
    from report.formatting import amounts  # with pandas and more, a second to import

    data, models = experiment.data, experiment.models.values() or (experiment.model,)
    encoders = [f"{m.name} ({m.pretrained})" if m.pretrained else m.name for m in models]
    return (
        f"{data.source}: {', '.join(encoders)}, methods {', '.join(experiment.methods)}, "
        f"at {amounts(data.amounts)} of the training images",
        f"A run writes all settings to {folder / EXPERIMENT}; to change any, edit a copy and run "
        "it: python run_search.py COPY.yaml --name ANOTHER",
    )
