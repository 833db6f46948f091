"""Measure what Ray Tune and the search cost beside the trials: driver, gaps and memory.

    python -m benchmarks.overhead driver                      # 1,000 trials of 5 s on 16 slots
    python -m benchmarks.overhead driver --trials 100 --reports 5 --seconds 0.2
    python -m benchmarks.overhead trained --slots 2           # the default's trials, really trained
    python -m benchmarks.overhead memory --slots 2            # trials of blocks 11-7 side by side
    python -m benchmarks.overhead features --space FILE --set data.partitions=[10]

The trials of `driver` sleep, so that more of them run at once than there are cores; those of
`trained` and `memory` are the experiment's own. `features` encodes train and validation into an
empty cache: all images, and those that the experiment uses. Each command starts a Ray of its own
and prints Markdown rows. A *gap* is the time from the last step of a trial to the first step of the
next trial on the same actor.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import ray
import torch

from benchmarks.limits import Peak
from benchmarks.memory import Held, bare, trials_and_store
from benchmarks.watched import Nap, SleepingTrial, Step, Watch, WatchedTrial, busy_share, ends, gaps
from models import Recipe, select
from partitions import Partition
from records import JournalWriter
from search_spaces import Experiment, load_experiment
from tune.search.search import Proposal, Search
from tune.setup import Prepared, feature_stage, prepare
from tune.storage.storage import Storage
from tune.trials.checkpoints import KeptCheckpoints
from tune.trials.trainable import SuffixTrial
from tune.trials.trial_context import TrialContext
from tune.trials.tuner import run_tuner
from tune.workers.actor_pool import ActorPool
from tune.workers.cluster import MINIMUM_STORE, Cluster, connected
from tune.workers.placement import Placement
from tune.workers.survey import ask_devices

DIGITS = Path(__file__).resolve().parents[1] / "search_spaces" / "digits.yaml"
Row = tuple[str, str]
Span = tuple[float, float]  # begin and end, in seconds since the epoch


class TimedSearch(Search):
    """The search, which notes how long each proposal took."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.proposing: list[float] = []

    def propose(self) -> Proposal | None:
        """Propose a trial, and note the seconds it took."""
        began = time.perf_counter()
        proposal = super().propose()
        if proposal:
            self.proposing.append(time.perf_counter() - began)
        return proposal


def sleepers(trials: int, cells: int, reports: int) -> Experiment:
    """Return the default's `llrd`, from zeros, whose trials report at 1, 2, ... samples."""
    settings = (
        f"data.partitions={list(range(1, cells + 1))}",
        "search.scheduler=none",
        "search.sampler=tpe",
        f"search.samples={reports}",
        f"search.evaluations={reports}",
        "methods.llrd.space.head_start=zeros",
    )
    return load_experiment(DIGITS, settings, trials=trials // cells, methods=["llrd"])


@contextlib.contextmanager
def local_cluster(experiment: Experiment, slots: int, store: int = 0) -> Iterator[Cluster]:
    """Start a local Ray that claims to have one core for each slot."""
    ray.init(
        address="local",
        num_cpus=slots,
        include_dashboard=True,
        dashboard_host="127.0.0.1",
        object_store_memory=max(MINIMUM_STORE, store),
        log_to_driver=False,
        logging_level=logging.ERROR,
    )
    try:
        with connected(experiment.resources, None, 0) as cluster:
            yield cluster
    finally:
        ray.shutdown()


def watched_search(
    experiment: Experiment,
    images: Mapping[Partition, int],
    context: TrialContext,
    cluster: Cluster,
    trainable: type[SuffixTrial],
    watch: Watch,
) -> tuple[TimedSearch, Span]:
    """Run a whole search, and return it with the times at which it began and ended."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        checkpoints = Storage.at(path / "checkpoints")
        with contextlib.closing(JournalWriter(path / "events.jsonl")) as journal:
            search = TimedSearch(experiment, journal, images)
            began = time.time()
            run_tuner(
                search,
                context,
                checkpoints=KeptCheckpoints(checkpoints, search),
                scratch=path / "ray",
                placement=Placement(cluster.slot),
                slots=cluster.slots,
                spare=int(cluster.grows),
                callbacks=[watch],
                trainable=trainable,
            )
            return search, (began, time.time())


def new_context(prepared: Prepared, cluster: Cluster) -> TrialContext:
    """Make a context as a run does, but with an empty fingerprint."""
    experiment, dataset, plan = prepared.experiment, prepared.dataset, prepared.plan
    pretrained = ray.put(prepared.pretrained)
    precision = ask_devices(cluster, experiment.model.precision).precision
    pool = ActorPool(cluster.slot, cluster.grows)
    stage = feature_stage(prepared, pretrained, pool, precision, dataset.source, cluster.store)
    made = stage.run(
        {"train": dataset.train, "val": dataset.val},
        plan.boundaries,
        experiment.data.max_unreadable,
        views={"train": experiment.views},
        view_boundaries=plan.view_boundaries,
        needed=prepared.draws.needed(prepared.plan.seeds),
    )
    shared = made.splits["train"], made.splits["val"], prepared.partitions, prepared.draws
    return TrialContext(experiment, pretrained, "", precision, dataset.classes, *shared)


def driver(arguments: argparse.Namespace) -> list[Row]:
    """Measure a search whose trials sleep."""
    experiment = sleepers(arguments.trials, arguments.cells, arguments.reports)
    nap = cast(TrialContext, Nap(arguments.seconds))
    images, watch = dict.fromkeys(experiment.data.amounts, 1), Watch()
    with local_cluster(experiment, arguments.slots) as cluster:
        search, span = watched_search(experiment, images, nap, cluster, SleepingTrial, watch)
    return [
        ("trials, cells", f"{arguments.trials}, {arguments.cells}"),
        *walls(watch.steps, arguments.slots, arguments.seconds, span),
        *of_driver(watch.steps, search),
    ]


def trained(arguments: argparse.Namespace) -> list[Row]:
    """Measure an experiment's own search."""
    experiment = load_experiment(arguments.space, arguments.set)
    prepared, watch = prepare(experiment), Watch()
    images = prepared.partitions
    with local_cluster(experiment, arguments.slots, prepared.plan.store_bytes) as cluster:
        context = new_context(prepared, cluster)
        search, span = watched_search(experiment, images, context, cluster, WatchedTrial, watch)
    steps = watch.steps
    return [
        ("trials", str(sum(len(cell.trials) for cell in search.cells.values()))),
        ("reports", str(len(steps))),
        ("before the first step, s", f"{min(step.began for step in steps) - span[0]:.1f}"),
        ("slots busy", f"{busy_share(steps, cluster.slots):.1%}"),
        *of_driver(steps, search),
    ]


def memory(arguments: argparse.Namespace) -> list[Row]:
    """Measure the memory of trials of blocks 11-7, two for each slot."""
    config = {"blocks": "11-7", "kinds": "ln+attn+mlp", "head_start": "zeros", "batch_size": 32}
    space = {**config, "lr": {"loguniform": [1e-4, 1e-3]}}
    settings = [
        "data.partitions=[100]",
        "search.scheduler=none",
        "search.transfer=0",
        f"methods={{tuned: {{space: {json.dumps(space)}}}}}",
        f"search.samples={arguments.samples}",
    ]
    experiment = load_experiment(
        arguments.space, [*settings, *arguments.set], trials=2 * arguments.slots
    )
    prepared, watch, slots = prepare(experiment), Watch(), arguments.slots
    images = prepared.partitions
    with local_cluster(experiment, slots, prepared.plan.store_bytes) as cluster:
        context, idle = new_context(prepared, cluster), bare(slots)
        arrays = [*context.train.features.values(), *context.val.features.values()]
        features = sum(array.get().nbytes for array in arrays)
        with Peak(lambda: trials_and_store({step.process for step in watch.steps})) as peak:
            watched_search(experiment, images, context, cluster, WatchedTrial, watch)
    encoder = prepared.pretrained.encoder
    held = Held.of(select(Recipe(**config), encoder), encoder, prepared.plan.boundaries)
    ideal = features + idle + slots * held.suffix
    by_design = ideal + held.encoder + slots * held.kept
    return [
        ("trials at once, all", f"{slots}, {2 * slots}"),
        ("features, once", megabytes(features)),
        ("suffix training state, each", megabytes(held.suffix)),
        ("bare interpreter, each", megabytes(idle / slots)),
        ("features + states + interpreters", megabytes(ideal)),
        ("trials and object store", megabytes(peak.largest)),
        ("over", f"{peak.largest / ideal - 1:+.1%}"),
        ("average and best weights, each", megabytes(held.kept)),
        ("encoder's weights, once, in the store", megabytes(held.encoder)),
        ("over all these", f"{peak.largest / by_design - 1:+.1%}"),
    ]


def features(arguments: argparse.Namespace) -> list[Row]:
    """Measure the feature stage from an empty cache: of all images, and of those that are used."""
    whole = "data.partitions=[100]"
    images, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name, settings in (("all", [*arguments.set, whole]), ("used", arguments.set)):
            cache = f"features.cache={Path(folder) / name}"
            experiment = load_experiment(arguments.space, [*settings, cache])
            prepared = prepare(experiment)
            with local_cluster(experiment, arguments.slots, prepared.plan.store_bytes) as cluster:
                began = time.perf_counter()
                context = new_context(prepared, cluster)
                seconds.append(time.perf_counter() - began)
                images.append(len(context.train) + len(context.val))
    return [
        ("images encoded, all and used", f"{images[0]}, {images[1]}"),
        ("feature stage, s", f"{seconds[0]:.1f}, {seconds[1]:.1f}"),
        (
            "ratio of images, of seconds",
            f"{images[1] / images[0]:.2f}, {seconds[1] / seconds[0]:.2f}",
        ),
    ]


def walls(steps: Sequence[Step], slots: int, seconds: float, span: Span) -> list[Row]:
    """Compare the time of a search with the time it would take without any overhead."""
    ideal, wall = len(steps) * seconds / slots, span[1] - span[0]
    return [
        ("reports", str(len(steps))),
        ("wall, s", f"{wall:.1f}"),
        ("ideal, s", f"{ideal:.1f}"),
        ("over", f"{wall / ideal - 1:.1%}"),
        ("slots busy", f"{busy_share(steps, slots):.1%}"),
    ]


def of_driver(steps: Sequence[Step], search: TimedSearch) -> list[Row]:
    """Measure the driver's time for each result and each proposal."""
    late = [step.handled - step.ended for step in steps]
    rows = [
        ("a result until it is handled, ms, first and last fifth", fifths(late)),
        ("a proposal, ms, first and last fifth", fifths(search.proposing)),
    ]
    if between := gaps(steps):  # there are none if every actor ran one trial
        median, high = 1e3 * np.quantile(between, [0.5, 0.9])
        rows.append(
            ("gap between trials of an actor, ms, median and 90%", f"{median:.0f}, {high:.0f}")
        )
    return rows


def megabytes(count: float) -> str:
    """Format a number of bytes in MB."""
    return f"{count / 1e6:.1f} MB"


def fifths(seconds: Sequence[float]) -> str:
    """Format the means of the first and the last fifth, in milliseconds."""
    first, last = ends(seconds)
    return f"{1e3 * first:.1f}, {1e3 * last:.1f}"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = {"driver": driver, "trained": trained, "memory": memory, "features": features}
    parser.add_argument("what", choices=commands)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--cells", type=int, default=20)
    parser.add_argument("--slots", type=int, default=16)
    parser.add_argument("--reports", type=int, default=5, help="reports of a trial")
    parser.add_argument("--seconds", type=float, default=1.0, help="sleep before each report")
    parser.add_argument("--space", type=Path, default=DIGITS, help="for all but `driver`")
    parser.add_argument("--set", action="append", default=[], help="for all but `driver`")
    parser.add_argument("--samples", type=int, default=10_000, help="of a trial of `memory`")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| | |\n|---|---|")
    for name, value in commands[arguments.what](arguments):
        print(f"| {name} | {value} |", flush=True)


if __name__ == "__main__":
    main()
