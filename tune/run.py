"""A run from beginning to end: the order in which things happen, and nothing else."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from data import Dataset
from partitions import Partition
from records import (
    CHECKPOINTS,
    Cell,
    Footnote,
    JournalWriter,
    Nodes,
    NodeView,
    RunFinished,
    RunStarted,
    read_final_fits,
)
from report import Summary, best_methods, write_report
from report.optuna import write_studies
from search_spaces import Experiment
from terminal import say
from tune.features.duplicates import DuplicateSearch
from tune.forecast import forecast
from tune.machines import joined
from tune.monitor.metrics import Gauges
from tune.monitor.watch import Watch, duration
from tune.pictures import save_pictures
from tune.run_dir import RunDirectory
from tune.search.search import Search
from tune.search.time_budget import STARTUP, TimeBudget
from tune.setup import (
    Prepared,
    expected_test_seconds,
    final_fits_of,
    identity_of,
    prepare,
)
from tune.stages import (
    Site,
    find_winners,
    lacks_audit,
    make_context,
    make_features,
    place_trials,
    score_winners,
)
from tune.storage.mirror import mirrored, place_of_copy
from tune.storage.storage import Storage
from tune.trials.checkpoints import KeptCheckpoints
from tune.trials.final_fits import discard_others, pending
from tune.versions import versions
from tune.workers.shared_folders import SharedFolder

CHECKPOINTS_OF = "the trials' checkpoints"


@dataclass(frozen=True)
class Options:
    """What the command line adds to an experiment.

    Attributes:
        out: folder of all runs; this one's is `out/<experiment's name>`.
        resume: continue the run that is there.
        address: of a running Ray cluster.
        time_budget: seconds for everything, final fits and report included.
        storage: path or URL of a folder of all runs that keeps a copy of them.
        now: the monotonic clock that the time budget goes by.
        dataset: the images of the experiment, if they have been listed.
    """

    out: Path = Path("results")
    resume: bool = False
    address: str | None = None
    time_budget: float | None = None
    storage: str | None = None
    now: Callable[[], float] = time.monotonic
    dataset: Dataset | None = field(default=None, compare=False)


def dry_run(experiment: Experiment, options: Options, console: Console) -> None:
    """Print what a run would do; with `resume`, check that it can go on."""
    prepared = _prepared(experiment, options, console)
    experiment = prepared.experiment
    if options.resume and (folder := options.out / experiment.name).is_dir():
        with RunDirectory.locked(folder, resume=True) as directory:
            directory.resolved(experiment, identity_of(prepared))  # refuses what cannot go on
    prepared.plan.render(console)
    _warn(prepared, options, console)
    folder, room = options.out / experiment.name, 2 * prepared.plan.encoder_bytes
    with joined(prepared, options.address, room, _own(folder, options)) as here:
        say(console, here.cluster.describe())
        machines = here.checked(partial(say, console), partial(_say_nodes, console))
        if not options.resume:  # what a run has done already takes no time
            say(console, forecast(prepared, machines), wrap=True)
        if options.time_budget is not None:
            budget = f"time budget: {duration(options.time_budget)}"
            say(console, f"{budget}; a search that would take longer ends early, with a table")


def run(experiment: Experiment, options: Options, console: Console) -> Summary:
    """Search, score and report; return the report, which is on disk by then."""
    folder = options.out / experiment.name
    if options.storage is None:
        _run(experiment, options, console, Storage.at(folder))
        return write_report(folder)
    storage = place_of_copy(folder, options.storage)
    with mirrored(folder, storage, options.resume, console):
        _run(experiment, options, console, storage)
        return write_report(folder)


def _run(experiment: Experiment, options: Options, console: Console, storage: Storage) -> None:
    began = options.now()
    prepared = _prepared(experiment, options, console)
    experiment = prepared.experiment
    prepared.plan.render_data(console)
    _warn(prepared, options, console)
    folder = options.out / experiment.name
    with (
        RunDirectory.locked(folder, options.resume) as directory,
        closing(JournalWriter(directory.journal)) as journal,
    ):
        resolved = directory.resolved(experiment, identity_of(prepared))
        events, made_of = directory.events, resolved["identity"]
        search = Search(experiment, journal, prepared.partitions)
        search.replay(events, RunStarted(bool(events), experiment.seed, made_of, versions()))
        known = (*prepared.dataset.warnings, *prepared.pretrained.assumed, *prepared.not_audited)
        for warning in known:
            journal.write(Footnote(warning))
        fits = final_fits_of(prepared, search.winners())
        scored = not pending(fits, directory.path, experiment.final.export)
        listed = directory.lists_images and not lacks_audit(prepared, directory)
        if search.finished and scored and listed:
            discard_others(fits, directory.path)
            directory.record(resolved)
        else:
            with (
                joined(
                    prepared,
                    options.address,
                    prepared.plan.store_bytes,
                    _own(folder, options),
                ) as here,
                Gauges(experiment.name) as gauges,
            ):
                cluster = here.cluster
                say(console, cluster.describe())
                if cluster.dashboard:
                    say(console, f"dashboard: {cluster.dashboard}")
                least = STARTUP + prepared.plan.least_seconds(cluster.slot, cluster.slots)
                _say_if_late(options, began, least, console)
                watch = Watch(console, gauges, journal)
                machines = here.checked(watch.print, lambda nodes: journal.write(Nodes(nodes)))
                site = Site(prepared, directory, journal, events, machines, watch)
                _run_stages(site, search, storage, resolved, options, began)
                if search.failed and (logs := cluster.keep_logs()):
                    say(console, f"{search.failed} trials failed; Ray's logs: {logs}")
        winners = search.winners()
        best = best_methods(winners, read_final_fits(directory.path))
        directory.write_winners(winners, experiment.probe, best)
        write_studies(directory.path)
        save_pictures(directory.path, prepared.dataset)
        journal.write(RunFinished(round(options.now() - began, 3)))
    say(console, f"done in {duration(options.now() - began)}")
    _say_if_late(options, began, 0.0, console)


def _own(folder: Path, options: Options) -> SharedFolder:
    """Name the folder of a run that machines must share beside the cache."""
    if options.storage is None:
        return SharedFolder(Storage.at(folder), "--out", CHECKPOINTS_OF)
    return SharedFolder(Storage.at(options.storage) / folder.name, "--storage", CHECKPOINTS_OF)


def _say_nodes(console: Console, nodes: tuple[NodeView, ...]) -> None:
    for node in nodes:
        sees = "sees" if node.sees_images else "does NOT see"
        say(console, f"{node.address} {sees} the images; code from {node.code}")


def _prepared(experiment: Experiment, options: Options, console: Console) -> Prepared:
    """Prepare an experiment, and say what may take a while."""
    name, tag = experiment.model.name, experiment.model.pretrained
    if tag is not None and not Path(tag).suffix and not Path(tag).expanduser().is_file():
        say(console, f"{name}, {tag}: open_clip downloads the weights if it has not before")
    return prepare(experiment, dataset=options.dataset)


def _run_stages(
    site: Site,
    search: Search,
    storage: Storage,
    resolved: Mapping[str, Any],
    options: Options,
    began: float,
) -> None:
    """Run all that needs Ray: features, search, and then, with all winners fixed, final fits."""
    placement = place_trials(site)
    checkpoints = KeptCheckpoints(storage / CHECKPOINTS, search)
    features_began = time.monotonic()
    draws, features = make_features(site)
    site.directory.record(resolved)
    budget = TimeBudget(
        site.prepared.experiment,
        site.machines.cluster.slots,
        options.time_budget,
        began,
        expected_test_seconds(site.prepared, time.monotonic() - features_began),
        options.now,
        *_judges(site.prepared),
        _made(site, search),
        sum(len(test.split) for test in site.prepared.dataset.tests.values()),
    )
    context, seen = make_context(site, draws, features, checkpoints.folder), features.contents
    with DuplicateSearch(site.prepared.dataset.classes, site.watch.print) as duplicates:
        duplicates.compare(seen)
        winners = find_winners(site, placement, context, search, budget, checkpoints)
        score_winners(site, context, search, budget, checkpoints, winners, seen, duplicates)


def _made(site: Site, search: Search) -> Counter[tuple[Cell, int]]:
    """Count the final fits that are there of the present winners, by cell and trial."""
    fits = final_fits_of(site.prepared, search.winners())
    export = site.prepared.experiment.final.export
    missing = pending(fits, site.directory.path, export)
    return Counter((fit.cell, fit.trial) for fit in fits if fit not in missing)


def _judges(prepared: Prepared) -> tuple[dict[Partition, int], dict[Partition, int]]:
    """Count the validation images of each partition: the search's, and final fits'."""
    most, draws = prepared.experiment.search.val_images, prepared.draws
    rows = prepared.partitions
    return (
        {p: len(draws.judging_rows(p, 0, most)) for p in rows},
        {p: len(draws.val_rows(p, 0)) for p in rows},
    )


def _say_if_late(options: Options, began: float, least: float, console: Console) -> None:
    """Say that a run misses its time budget if `least` seconds follow; none follow its end."""
    late = options.now() - began + least - (options.time_budget or math.inf)
    if late > 0:
        how = "too short for all final fits, by at least" if least else "missed by"
        say(console, f"time budget: {how} {duration(late)}")


def _warn(prepared: Prepared, options: Options, console: Console) -> None:
    warnings = (*prepared.pretrained.assumed, *prepared.not_audited)
    for warning in (prepared.plan.warning(options.out), *warnings):
        if warning:
            say(console, f"warning: {warning}")
