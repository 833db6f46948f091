"""A run from beginning to end: the order in which things happen, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

import ray
from rich.console import Console

from data import (
    Dataset,
    ImageSource,
    Split,
    SplitContent,
    find_duplicates,
)
from errors import InputError
from files import check_folder
from models.recipe import Recipe
from records import (
    CHECKPOINTS,
    Cell,
    Event,
    FinalFitFailed,
    Footnote,
    ImagesRead,
    JournalWriter,
    Nodes,
    NodeView,
    PrecisionChosen,
    RunFinished,
    RunStarted,
    Winner,
    read_journal,
)
from report import Report, write_report
from report.optuna import write_studies
from search_spaces.schema import Experiment
from tune.monitor.metrics import Gauges
from tune.monitor.progress import duration
from tune.monitor.watch import Watch
from tune.run_dir import RunDirectory, identity
from tune.search.importance import importances
from tune.search.search import Search
from tune.search.time_budget import TimeBudget
from tune.setup import (
    Prepared,
    feature_stage,
    final_fits_of,
    placement,
    prepare,
    run_fingerprint,
    training_images,
)
from tune.storage.mirror import mirrored, place_of_copy
from tune.storage.storage import Storage
from tune.trials.checkpoints import KeptCheckpoints
from tune.trials.final_fits import (
    FinalFitJob,
    FinalFitWorker,
    discard_others,
    pending,
    run_final_fits,
)
from tune.trials.trial_context import Workbench
from tune.trials.tuner import run_tuner
from tune.workers.actor_pool import Pool
from tune.workers.cluster import Cluster, connected
from tune.workers.object_store import SharedSplit
from tune.workers.survey import resolved_precision, survey


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
    """

    out: Path = Path("results")
    resume: bool = False
    address: str | None = None
    time_budget: float | None = None
    storage: str | None = None
    now: Callable[[], float] = time.monotonic


def dry_run(experiment: Experiment, options: Options, console: Console) -> None:
    """Print what a run would do."""
    if options.storage:
        place_of_copy(options.out / experiment.name, options.storage)
    prepared = prepare(experiment)
    prepared.plan.render(console)
    check_folder(options.out / experiment.name, "--out")
    if warning := prepared.plan.warning(options.out):
        console.print(f"warning: {warning}", highlight=False)
    with connected(experiment.resources, options.address, 0) as cluster:
        console.print(cluster.describe())
        for node in survey(cluster, prepared.dataset.source, _sample(prepared.dataset)):
            sees = "sees" if node.sees_images else "does NOT see"
            console.print(f"{node.address} {sees} the images; code from {node.code}")


def run(experiment: Experiment, options: Options, console: Console) -> Report:
    """Search, score and report; returns the report, which is on disk by then.

    Raises:
        InputError: of anything a user can mend.
    """
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
    prepared = prepare(experiment)
    dataset, plan = prepared.dataset, prepared.plan
    if warning := plan.warning(options.out):
        console.print(f"warning: {warning}", highlight=False)
    directory = RunDirectory(options.out / experiment.name, options.resume)
    with directory.locked(), contextlib.closing(JournalWriter(directory.journal)) as journal:
        what = identity(dataset, prepared.pretrained.fingerprint)
        resolved = directory.resolved(experiment, what)
        events = read_journal(directory.journal)
        journal.write(RunStarted(bool(events), experiment.seed))
        for warning in dataset.warnings:
            journal.write(Footnote(warning))
        search = Search(experiment, journal, training_images(prepared))
        search.replay(events)
        fits = final_fits_of(prepared, search.winners())
        if not search.finished or pending(fits, directory.path, experiment.final.export):
            with (
                connected(experiment.resources, options.address, plan.store_bytes) as cluster,
                Gauges(experiment.name) as gauges,
            ):
                console.print(cluster.describe(), highlight=False)
                console.print(f"dashboard: {cluster.dashboard}", highlight=False)
                clock = TimeBudget(
                    experiment, cluster.slots, options.time_budget, began, options.now
                )
                watch = Watch(search, journal, clock, console, gauges)
                nodes = _checked_nodes(prepared, cluster, journal)
                kept = KeptCheckpoints(storage / CHECKPOINTS, search)
                stages = Stages(prepared, directory, journal, events, cluster, nodes, watch, kept)
                directory.record(resolved)
                winners = stages.search(search)
                stages.score(winners)
        else:
            discard_others(fits, directory.path)
            directory.record(resolved)
        write_studies(directory.path)
        journal.write(RunFinished(round(options.now() - began, 3)))
    console.print(f"done in {duration(options.now() - began)}", highlight=False)


class Stages:
    """The stages of a run that need Ray, in their order.

    `search` is given train and validation alone; `score` is called with all winners fixed, and
    is the first to look at a test image.
    """

    def __init__(
        self,
        prepared: Prepared,
        directory: RunDirectory,
        journal: JournalWriter,
        events: Sequence[Event],
        cluster: Cluster,
        nodes: Sequence[NodeView],
        watch: Watch,
        kept: KeptCheckpoints,
    ) -> None:
        self._prepared, self._kept = prepared, kept
        self._experiment, self._dataset = prepared.experiment, prepared.dataset
        self._plan, self._directory = prepared.plan, directory
        self._journal, self._events = journal, events
        self._cluster, self._watch, self._console = cluster, watch, watch.console
        pretrained = ray.put(prepared.pretrained)
        precision = resolved_precision(cluster, self._experiment.model.precision)
        directory.check_precision(precision, events)
        journal.write(PrecisionChosen(precision))
        self._placement = placement(prepared, cluster, nodes, precision)
        self._pool = Pool(cluster.slot, cluster.slots, cluster.hosts)
        self._features = feature_stage(prepared, pretrained, self._pool, precision)
        self._contents: dict[str, SplitContent] = {}
        began = time.monotonic()
        with self._watch.timed("features"):
            shared = self._shared(
                {"train": self._dataset.train, "val": self._dataset.val}, self._plan.boundaries
            )
        images = self._plan.images
        share = sum(images[name] for name in self._dataset.tests) / (
            images["train"] * (1 + self._experiment.views) + images["val"]
        )
        watch.clock.test_seconds = (time.monotonic() - began) * share
        self._bench = Workbench(
            self._experiment,
            pretrained,
            run_fingerprint(prepared),
            precision,
            len(self._dataset.classes),
            shared["train"],
            shared["val"],
        )

    def search(self, search: Search) -> dict[Cell, Winner]:
        """Run the search; returns the winners, which from here on are fixed."""
        progress = self._watch.search()
        scratch = self._directory.path.absolute() / "ray"  # Tune's, of no use to anyone after
        with self._watch.timed("search"), contextlib.closing(progress):
            run_tuner(
                search,
                self._bench,
                checkpoints=self._kept,
                scratch=scratch,
                placement=self._placement,
                slots=self._cluster.slots,
                spare=int(self._cluster.grows),
                callbacks=[progress],
                patience=self._experiment.resources.report_seconds,
            )
        shutil.rmtree(scratch, ignore_errors=True)
        winners = search.winners()
        for winner in winners.values():
            self._journal.write(winner)
        self._directory.write_winners(winners, self._experiment.probe)
        self._directory.write_importance(importances(self._experiment, search.cells))
        return winners

    def score(self, winners: dict[Cell, Winner]) -> None:
        """Refit the winners over their seeds and score each on the test splits, once."""
        wanted = final_fits_of(self._prepared, winners)
        fits = pending(wanted, self._directory.path, self._experiment.final.export)
        if not fits:
            discard_others(wanted, self._directory.path)
            return
        boundaries = {self._bench.boundary(Recipe(**fit.config)) for fit in wanted}
        with self._pool:
            with self._watch.timed("test features"):
                scored = self._test_splits(sorted(boundaries))
            # Not before: where those images are refused, the results that are there stay.
            discard_others(wanted, self._directory.path)
            with self._watch.timed("final fits"):
                left = self._fit_winners(wanted, fits, scored)
        if not left:  # a resumed run makes what is left, from its winner's checkpoint
            self._kept.release()

    def _fit_winners(
        self, wanted: list[FinalFitJob], fits: list[FinalFitJob], scored: dict[str, SharedSplit]
    ) -> list[FinalFitJob]:
        """Make the fits that are missing, as far as time allows; returns what is left of them."""
        worker = FinalFitWorker(
            *(self._bench, scored, self._prepared.pretrained.fingerprint, self._dataset.classes),
            self._kept.folder,
        )
        run_dir, begun = self._directory.path, takewhile(self._watch.in_time, fits)
        with self._watch.final_fits(wanted, fits, run_dir) as ended:
            for fit, failure in run_final_fits(begun, worker, run_dir, self._pool):
                ended(fit, failure)
                if failure:
                    self._journal.write(FinalFitFailed(fit.cell, fit.seed, failure))
                    self._console.print(f"final fit of {fit.cell}, seed {fit.seed}: {failure}")
        left = pending(fits, run_dir, self._experiment.final.export)
        if left:
            self._console.print(
                f"{len(left)} of {len(wanted)} final fits are not made; --resume makes them",
                highlight=False,
            )
        return left

    def _test_splits(self, boundaries: Sequence[str]) -> dict[str, SharedSplit]:
        """The test split and the extra tests, now that all winners are fixed."""
        shared: dict[str, SharedSplit] = {}
        for name, test in self._dataset.tests.items():
            shared |= self._shared({name: test.split}, boundaries, test.source)
        self._directory.write_duplicates(find_duplicates(self._contents))
        self._directory.write_test_images({name: self._contents[name].split for name in shared})
        return shared

    def _shared(
        self,
        splits: Mapping[str, Split],
        boundaries: Sequence[str],
        source: ImageSource | None = None,
    ) -> dict[str, SharedSplit]:
        """Features of splits, from the main source or from another."""
        stage = self._features
        if source is not None:
            stage = dataclasses.replace(stage, source=source)
        with self._watch.features(" and ".join(splits)) as progress:
            made = stage.run(
                splits,
                boundaries,
                self._experiment.data.max_unreadable,
                views={"train": self._experiment.views},
                view_boundaries=self._plan.view_boundaries if "train" in splits else (),
                progress=progress,
            )
        self._directory.write_skipped(made.skipped, list(splits))
        self._contents |= made.contents
        images = {name: made.contents[name].digest for name in splits}
        self._directory.check_images(images, self._events)
        self._journal.write(ImagesRead(images))
        return made.splits


def _checked_nodes(prepared: Prepared, cluster: Cluster, journal: JournalWriter) -> list[NodeView]:
    """All machines of the cluster; raises InputError if one sees no images."""
    nodes = survey(cluster, prepared.dataset.source, _sample(prepared.dataset))
    journal.write(Nodes(tuple(nodes)))
    if blind := [node.address for node in nodes if not node.sees_images]:
        raise InputError(
            f"data.source: none of the first images of {prepared.experiment.data.source} can be "
            f"read on {', '.join(blind)}; every machine of the cluster needs them at the same path"
        )
    return nodes


def _sample(dataset: Dataset) -> tuple[str, ...]:
    """A few training images: one of them may be broken, all of them hardly."""
    return dataset.train.keys[:5]
