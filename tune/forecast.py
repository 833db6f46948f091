"""How long a run will take on the machines that are there, before it begins."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from math import inf
from pathlib import Path

from errors import one_line
from records import JournalWriter
from tune.calibration import Calibrator, MethodPace, Pace, mean_pace
from tune.machines import Machines
from tune.monitor.watch import duration
from tune.search.cell_search import CellSearch
from tune.search.expected_samples import ExpectedSamples
from tune.search.search import Search
from tune.search.time_budget import AFTER, STARTUP
from tune.setup import Prepared
from tune.workers.cluster import Cluster

MEASURED = 16  # slots that are timed, at most
IMAGES = 8  # that a slot decodes, at most


@dataclass(frozen=True)
class Forecast:
    """Expected seconds of a run's stages, and of each method in search and final fits."""

    features: float
    search: Mapping[str, float]
    final: Mapping[str, float]

    @property
    def seconds(self) -> float:
        """From beginning to end."""
        return STARTUP + self.features + sum(self.search.values()) + sum(self.final.values())

    def describe(self, cluster: Cluster) -> str:
        """Say in a line what takes how long, and where."""
        machines = "the cluster's" if cluster.grows else "this machine's"
        slots = f"{cluster.slots} slot{'s' * (cluster.slots != 1)}"
        costs = {"features": self.features}
        costs |= {f"the search of {name}": seconds for name, seconds in self.search.items()}
        costs |= {f"final fits of {name}": seconds for name, seconds in self.final.items()}
        most = max(costs, key=costs.__getitem__)
        return (
            f"expected on {machines} {slots}: features {duration(self.features)} "
            "(less where they are cached), search "
            f"{duration(sum(self.search.values()))}, final fits "
            f"{duration(sum(self.final.values()))}; {duration(self.seconds)} in all, the most for "
            f"{most} ({duration(costs[most])})"
        )


def forecast(prepared: Prepared, machines: Machines) -> str:
    """Time a few steps on the slots, and say how long a run would take.

    A forecast that fails is no reason to refuse a plan: then it says why there is none.
    """
    try:
        pace, cluster = _measured(prepared, machines), machines.cluster
        return expected(prepared, pace, cluster.slots).describe(cluster)
    except Exception as error:  # of a worker, or of its memory
        return f"how long it will take is not known: {one_line(error)}"


def expected(prepared: Prepared, pace: Pace, slots: int) -> Forecast:
    """Return what a run takes whose images and fits have a pace.

    Of the search it is what `ExpectedSamples` says that stopping leaves of it.
    """
    experiment, plan = prepared.experiment, prepared.plan
    images = sum(plan.images.values()) + plan.images["train"] * experiment.views
    samples = ExpectedSamples(experiment.search.transfer)
    search: defaultdict[str, float] = defaultdict(float)
    final: defaultdict[str, float] = defaultdict(float)
    with closing(JournalWriter(Path(os.devnull))) as journal:
        cells = Search(experiment, journal, prepared.partitions).cells
    for cell, state in cells.items():
        pace_of, most = pace.methods[cell.method], experiment.search.val_images
        trial = _whole_fit(prepared, state, pace_of, most)
        whole = _whole_fit(prepared, state, pace_of)
        search[cell.method] += trial * samples.left(state) / state.horizon / slots
        tests = sum(plan.images[name] for name in prepared.dataset.tests) * pace_of.judged
        # The first goes on from the end of its trial.
        fits = state.seeds * (AFTER * whole + tests) + (state.seeds - 1) * whole
        final[cell.method] += fits / slots
    return Forecast(images * pace.image / slots, search, final)


def _whole_fit(prepared: Prepared, state: CellSearch, pace: MethodPace, most: float = inf) -> float:
    """Return the seconds of a fit of a cell to its horizon, evaluations included.

    Each is on the cell's validation images, `most` of them at most.
    """
    plan, images = prepared.plan, prepared.partitions[state.cell.partition]
    validation = plan.images["val"]
    if prepared.experiment.data.validation != "full":
        validation = round(validation * images / plan.images["train"])
    judges = min(validation, most)
    samples = state.horizon if state.takes_steps else images
    return samples * pace.sample + state.evaluations(state.horizon) * judges * pace.judged


def _measured(prepared: Prepared, machines: Machines) -> Pace:
    """Time a few steps, on all slots of a machine at once, as they share its cores."""
    dataset, plan, cluster = prepared.dataset, prepared.plan, machines.cluster
    with machines.pool as pool:
        calibrator = Calibrator(
            pretrained=machines.pretrained,
            experiment=prepared.experiment,
            precision=machines.precision,
            boundaries=plan.boundaries,
            sample_flops={name: flops for name, (flops, _) in plan.sample_flops.items()},
            source=dataset.source,
            keys=dataset.train.keys[:: max(1, len(dataset.train) // IMAGES)][:IMAGES],
            threads=max(1, cluster.cpus // cluster.nodes // pool.on_a_node),
        )
        jobs = range(min(MEASURED, cluster.slots))
        found = [result for _, result in pool.map(Calibrator.measure, calibrator, jobs)]
    for result in found:
        if isinstance(result, Exception):
            raise result
    return mean_pace(found)
