"""An experiment with several encoders: a run for each of them, one after the other.

First every encoder has its probes, which take one pass over the images; joined encoders (`concat`)
find theirs in the caches of those that they join. Then, row by row, only the single encoders whose
probes validation finds best have blocks trained. The runs share one folder; each resumes by itself,
so that the whole does. Each has a copy of its own in a storage.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath

import yaml
from rich.console import Console

from errors import InputError, one_line
from files import replacing
from models.loading import load_pretrained
from partitions import named, titled
from records import EXPERIMENT, JOURNAL
from report import Summary
from report.encoders import Standing, promising, read_results, standings
from report.run import read_run
from report.write import write_run
from search_spaces import Experiment
from search_spaces.recorded import read_recorded
from terminal import say
from tune.run import Options, dry_run, run
from tune.storage.copier import belongs
from tune.storage.fetch import fetch, refusing
from tune.storage.mirror import place_of_copy
from tune.storage.storage import ERRORS, Storage, inside

Rows = dict[str, list[str]]
"""The rows at which each method that trains blocks is searched, by the method."""


def run_encoders(experiment: Experiment, options: Options, console: Console) -> Summary:
    """Search with each encoder, report, and return the report of all of them."""
    folder, began = options.out / experiment.name, options.now()
    _check_weights(experiment)
    if options.storage:
        _fetch(experiment, folder, options.storage, options.resume)
    if not (folder / EXPERIMENT).is_file():
        _write_experiment(experiment, folder)
    names = [*experiment.models]
    single = _single(experiment)
    before = {name: _searched(folder / name, experiment) for name in names}
    for place, name in enumerate(names):
        to_come = len(names) - place + min(experiment.search.encoders, len(single))
        _run(experiment, name, before[name], _budgeted(options, began, to_come), console)
    _write_experiment(experiment, folder)  # only now: a run may not go on with it
    chosen = _choose(experiment, folder, before, console)
    going_on = [name for name in names if chosen[name] != before[name]]
    for place, name in enumerate(going_on):
        later = _budgeted(options, began, len(going_on) - place)
        _run(experiment, name, chosen[name], replace(later, resume=True), console)
    summary = write_run(read_results(folder))
    if options.storage:
        _copy_results(folder, Storage.at(options.storage) / folder.name, console)
    return summary


def _fetch(experiment: Experiment, folder: Path, place: str, resume: bool) -> None:
    """Bring every encoder's run up to its copy, as what was begun decides on what follows.

    Raises:
        InputError: the copy is of one encoder, or has one more; or as `tune.storage.fetch.fetch`.
    """
    storage = Storage.at(place) / folder.name
    with refusing(f"--storage: cannot read {storage.path}"):
        journals = [name for name in storage.listing() if PurePosixPath(name).name == JOURNAL]
    known = {PurePosixPath(name).parent.name for name in journals}
    if lost := sorted(known - experiment.models.keys()):
        held = f"the encoder {lost[0]}; name it" if lost[0] else "a run of one encoder"
        raise InputError(f"--storage: {storage.path} has {held}, or --name starts another")
    for name in experiment.models:
        one = folder / name
        fetch(one, place_of_copy(one, inside(place, folder.name)), resume)


def _copy_results(folder: Path, storage: Storage, console: Console) -> None:
    """Copy the tables of all encoders; --resume can make them again."""
    try:
        for path in sorted(folder.iterdir()):
            if path.is_file() and belongs(path.name):
                with storage.writing(path.name) as file:
                    file.write(path.read_bytes())
    except ERRORS as error:
        say(console, f"warning: --storage: the tables are not copied: {one_line(error)}")


def plan_encoders(experiment: Experiment, options: Options, console: Console) -> None:
    """Print what each encoder's run would do if its blocks were trained at every row."""
    _check_weights(experiment)
    everywhere = {name: _all_rows(experiment) for name in _trained(experiment)}
    for name in experiment.models:
        one = experiment.of_encoder(name, everywhere)
        dry_run(one, _inside(experiment, options), console)


def _check_weights(experiment: Experiment) -> None:
    """Load every encoder once, so that none is refused after another has been searched."""
    for name in _single(experiment):
        load_pretrained(experiment.models[name])


def _write_experiment(experiment: Experiment, folder: Path) -> None:
    """Write the whole experiment, by which the folder is known to hold several encoders' runs."""
    folder.mkdir(parents=True, exist_ok=True)
    tree = experiment.resolved() | {"identity": {}}
    with replacing(folder / EXPERIMENT) as path:
        path.write_text(yaml.safe_dump(tree, sort_keys=False), encoding="utf-8")


def _run(experiment: Experiment, name: str, rows: Rows, options: Options, console: Console) -> None:
    say(console, f"encoder {name}: {experiment.models[name].name}", "bold")
    run(experiment.of_encoder(name, rows), _inside(experiment, options), console)


def _inside(experiment: Experiment, options: Options) -> Options:
    """Return the options of an encoder's run, which lies in the experiment's folder."""
    storage = options.storage and inside(options.storage, experiment.name)
    return replace(options, out=options.out / experiment.name, storage=storage)


def _budgeted(options: Options, began: float, runs: int) -> Options:
    """Give the next of the `runs` to come its share of the time that is left."""
    if options.time_budget is None:
        return options
    left = options.time_budget - (options.now() - began)
    return replace(options, time_budget=max(left / runs, 1.0))


def _searched(run_dir: Path, experiment: Experiment) -> Rows:
    """Return where an encoder's blocks are trained already: what was begun is not given up."""
    if not (run_dir / EXPERIMENT).is_file():
        return {name: [] for name in _trained(experiment)}
    methods = read_recorded(run_dir)[0].methods
    rows = {name: methods[name].rows or () for name in _trained(experiment) if name in methods}
    return {name: _in_order(rows.get(name, ()), experiment) for name in _trained(experiment)}


def _choose(
    experiment: Experiment, folder: Path, before: Mapping[str, Rows], console: Console
) -> dict[str, Rows]:
    """Choose, for each row, the encoders whose blocks are worth training; say which and why."""
    parts = {name: read_run(folder / name) for name in _single(experiment)}
    wanted = {name: {m: set(rows) for m, rows in before[name].items()} for name in before}
    for partition in experiment.data.amounts:
        standing = standings(parts, partition)
        chosen = promising(standing, experiment.search.encoders)
        at_row = {name for name, m in experiment.methods.items() if m.has_row(partition)}
        trained = at_row & {*_trained(experiment)}
        if at_row == trained:  # no probe speaks for or against an encoder
            chosen = [*parts]
        if len(standing) > 1 and trained:
            say(console, f"{titled(partition)}: {_told(standing, chosen)}")
        for name in chosen:
            for method in trained:
                wanted[name][method].add(named(partition))
    return {
        name: {method: _in_order(rows, experiment) for method, rows in by_method.items()}
        for name, by_method in wanted.items()
    }


def _told(standing: list[Standing], chosen: list[str]) -> str:
    figures = ", ".join(
        f"{one.encoder} {100 * one.accuracy:.1f}"
        + (f" (-{100 * one.lag:.1f} ± {100 * one.error:.1f})" if one.lag else "")
        for one in standing
    )
    return f"best probes on validation: {figures}; blocks are trained of {', '.join(chosen)}"


def _single(experiment: Experiment) -> list[str]:
    """Name the encoders that have blocks: all but those that are joined of others."""
    return [name for name, model in experiment.models.items() if model.concat is None]


def _trained(experiment: Experiment) -> list[str]:
    return [name for name, method in experiment.methods.items() if not method.frozen_encoder]


def _all_rows(experiment: Experiment) -> list[str]:
    return [named(partition) for partition in experiment.data.amounts]


def _in_order(rows: Iterable[str], experiment: Experiment) -> list[str]:
    found = set(rows)
    return [row for row in _all_rows(experiment) if row in found]
