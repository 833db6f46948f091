"""A run from beginning to end: the order in which things happen, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from rich.console import Console

from data import Dataset, FeatureStore, cache_root, load_dataset
from errors import InputError
from models.loading import Pretrained, load_pretrained
from models.precision import PrecisionName
from report import Report, write_report
from tune.bench import Workbench
from tune.clock import Clock
from tune.cluster import Cluster, connected, resolved_precision, survey
from tune.experiment import Experiment
from tune.features import FeatureStage
from tune.final_fits import FinalFit, discard_others, final_fits, pending, run_final_fits
from tune.groups import Group
from tune.journal import Journal, read_events
from tune.plan import Plan, make_plan
from tune.progress import Progress, duration
from tune.ray_search import run_tuner
from tune.run_dir import RunDirectory, data_digest, identity
from tune.search import Search, Winner
from tune.sharing import SharedSplit

FINGERPRINT = 32  # characters of it in a folder's name


@dataclass(frozen=True)
class Options:
    """What the command line adds to an experiment.

    Attributes:
        out: folder of all runs; this one's is `out/<experiment's name>`.
        resume: continue the run that is there.
        address: of a running Ray cluster.
        time_budget: seconds for everything, final fits and report included.
    """

    out: Path = Path("results")
    resume: bool = False
    address: str | None = None
    time_budget: float | None = None


@dataclass(frozen=True)
class Prepared:
    """An experiment with its data listed, its encoder loaded and its plan checked."""

    experiment: Experiment
    dataset: Dataset
    pretrained: Pretrained
    plan: Plan
    cache: Path


def prepare(experiment: Experiment) -> Prepared:
    """Everything that can be wrong without a GPU; raises InputError where it is."""
    dataset = load_dataset(experiment.data)
    pretrained = load_pretrained(experiment.model)
    cache = cache_root(experiment.features.cache)
    images = {"train": len(dataset.train), "val": len(dataset.val), "test": len(dataset.test)}
    name = f"{pretrained.fingerprint[:FINGERPRINT]}-{experiment.features.dtype}-*"
    files = [file for folder in cache.glob(name) for file in folder.rglob("*") if file.is_file()]
    cached = sum(file.stat().st_size for file in files)
    plan = make_plan(experiment, pretrained.encoder, images, cache, cached)
    plan.check(cache)
    return Prepared(experiment, dataset, pretrained, plan, cache)


def dry_run(experiment: Experiment, options: Options, console: Console) -> None:
    """Print what a run would do."""
    prepared = prepare(experiment)
    prepared.plan.render(console)
    with connected(experiment.resources, options.address, 0) as cluster:
        console.print(cluster.describe())
        for node in survey(prepared.dataset.source, _sample(prepared.dataset)):
            sees = "sees" if node.sees_images else "does NOT see"
            console.print(f"{node.address} {sees} the images; code from {node.code}")


def run(experiment: Experiment, options: Options, console: Console) -> Report:
    """Search, score and report; returns the report, which is on disk by then.

    Raises:
        InputError: of anything a user can mend.
    """
    began = time.monotonic()
    prepared = prepare(experiment)
    dataset, plan = prepared.dataset, prepared.plan
    directory = RunDirectory(options.out / experiment.name, options.resume)
    with directory.locked(), contextlib.closing(Journal(directory.journal)) as journal:
        what = identity(dataset, prepared.pretrained.fingerprint)
        directory.record(experiment, what)
        events = read_events(directory.journal)
        journal.write("run_started", resumed=bool(events), seed=experiment.seed)
        for warning in dataset.warnings:
            journal.write("footnote", text=warning)
        search = Search(experiment, journal, _studies(directory.path))
        search.replay(events)
        if not search.finished or pending(_fits(prepared, search.winners()), directory.path):
            with connected(experiment.resources, options.address, plan.store_bytes) as cluster:
                console.print(cluster.describe(), highlight=False)
                console.print(f"dashboard: {cluster.dashboard}", highlight=False)
                clock = Clock(experiment, cluster.slots, options.time_budget, began)
                _check_nodes(prepared, journal)
                stages = Stages(prepared, directory, journal, cluster, clock, console)
                winners = stages.search(search)
                stages.score(winners)
        journal.write("run_finished", seconds=round(time.monotonic() - began, 3))
    console.print(f"done in {duration(time.monotonic() - began)}", highlight=False)
    return write_report(directory.path)


class Stages:
    """The stages of a run that need Ray, in their order.

    `search` is given train and validation alone; `score` is called with all winners fixed, and
    is the first to look at a test image.
    """

    def __init__(
        self,
        prepared: Prepared,
        directory: RunDirectory,
        journal: Journal,
        cluster: Cluster,
        clock: Clock,
        console: Console,
    ) -> None:
        self._prepared = prepared
        self._experiment, self._dataset = prepared.experiment, prepared.dataset
        self._plan, self._directory, self._journal = prepared.plan, directory, journal
        self._cluster, self._clock, self._console = cluster, clock, console
        pretrained = ray.put(prepared.pretrained)
        precision = resolved_precision(cluster, self._experiment.model.precision)
        self._features = self._feature_stage(prepared, pretrained, precision)
        began = time.monotonic()
        with self._timed("features"):
            train, val = self._splits("train", "val")
        images = self._plan.images
        share = images["test"] / (images["train"] + images["val"])
        clock.test_seconds = (time.monotonic() - began) * share
        self._bench = Workbench(
            self._experiment,
            pretrained,
            data_digest(self._dataset, self._dataset.train, self._dataset.val),
            precision,
            len(self._dataset.classes),
            train,
            val,
        )

    def search(self, search: Search) -> dict[Group, Winner]:
        """Run the search; returns the winners, which from here on are fixed."""
        progress = Progress(search, self._clock, self._console)
        scratch = self._directory.path.absolute() / "ray"  # Tune's, of no use to anyone after
        with self._timed("search"), contextlib.closing(progress):
            run_tuner(
                search,
                self._bench,
                checkpoints=self._directory.checkpoints,
                scratch=scratch,
                slot=self._cluster.slot,
                slots=self._cluster.slots,
                callbacks=[progress],
            )
        shutil.rmtree(scratch, ignore_errors=True)
        winners = search.winners()
        for group, winner in winners.items():
            self._journal.write(
                "winner",
                group=str(group),
                trial=winner.number,
                val_accuracy=winner.val_accuracy,
                config=winner.config,
            )
        self._directory.write_winners(winners, self._experiment.probe)
        return winners

    def score(self, winners: dict[Group, Winner]) -> None:
        """Refit the winners over their seeds and score each on the test split, once."""
        wanted = _fits(self._prepared, winners)
        discard_others(wanted, self._directory.path)
        fits = pending(wanted, self._directory.path)
        if not fits:
            return
        with self._timed("test features"):
            (test,) = self._splits("test")
        cluster = self._cluster
        with self._timed("final fits"), self._console.status("final fits") as status:
            done = run_final_fits(
                fits, self._bench, test, self._directory.path, cluster.slot, cluster.slots
            )
            for left, (fit, failure) in zip(range(len(fits) - 1, -1, -1), done, strict=True):
                status.update(f"final fits: {left} left")
                if failure:
                    self._journal.write(
                        "final_fit_failed", group=str(fit.group), seed=fit.seed, reason=failure
                    )
                    self._console.print(f"final fit of {fit.group}, seed {fit.seed}: {failure}")

    def _splits(self, *names: str) -> list[SharedSplit]:
        what = f"features of {' and '.join(names)}"
        with self._console.status(what) as status:
            shared, skipped = self._features.run(
                {name: getattr(self._dataset, name) for name in names},
                self._plan.boundaries,
                self._experiment.data.max_unreadable,
                lambda done, total: status.update(f"{what}: {done}/{total} images"),
            )
        self._directory.write_skipped(skipped, names)
        return [shared[name] for name in names]

    @contextlib.contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        seconds = time.monotonic() - began
        self._journal.write("stage", stage=stage, seconds=round(seconds, 3))
        self._console.print(f"{stage}: {duration(seconds)}", highlight=False)

    def _feature_stage(
        self,
        prepared: Prepared,
        pretrained: ray.ObjectRef[Pretrained],
        precision: PrecisionName,
    ) -> FeatureStage:
        features = self._experiment.features
        name = f"{prepared.pretrained.fingerprint[:FINGERPRINT]}-{features.dtype}-{precision}"
        return FeatureStage(
            store=FeatureStore(prepared.cache, name),
            pretrained=pretrained,
            source=self._dataset.source,
            slot=self._cluster.slot,
            slots=self._cluster.slots,
            batch_size=features.batch_size,
            dtype=features.dtype,
            precision=precision,
            map_above=self._plan.map_above,
        )


def _check_nodes(prepared: Prepared, journal: Journal) -> None:
    nodes = survey(prepared.dataset.source, _sample(prepared.dataset))
    journal.write("nodes", nodes=[dataclasses.asdict(node) for node in nodes])
    if blind := [node.address for node in nodes if not node.sees_images]:
        raise InputError(
            f"data.source: none of the first images of {prepared.experiment.data.source} can be "
            f"read on {', '.join(blind)}; every machine of the cluster needs them at the same path"
        )


def _sample(dataset: Dataset) -> tuple[str, ...]:
    """A few training images: one of them may be broken, all of them hardly."""
    return dataset.train.keys[:5]


def _fits(prepared: Prepared, winners: dict[Group, Winner]) -> list[FinalFit]:
    data = data_digest(prepared.dataset, prepared.dataset.val, prepared.dataset.test)
    return final_fits(winners, prepared.experiment.final.seeds, data)


def _studies(path: Path) -> JournalStorage:
    """Fresh studies: what an earlier process told them is in the journal, and is replayed."""
    file = path / "optuna.journal"
    file.unlink(missing_ok=True)
    return JournalStorage(JournalFileBackend(str(file)))
