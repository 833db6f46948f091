"""How long a run will take, from the pace of a few steps."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest

import tune.calibration
import tune.forecast
from search_spaces import Experiment
from tests.runs.helpers import SHARED, small
from tune.calibration import Calibrator, MethodPace, Pace
from tune.features.plan import final_seeds
from tune.forecast import Forecast, expected, forecast
from tune.search.time_budget import STARTUP
from tune.setup import Prepared, prepare
from tune.workers.cluster import Cluster

CLUSTER = Cluster({"CPU": 1}, {"node": 2}, nodes=1, cpus=2, gpus=0, dashboard=None)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(small(methods=SHARED))


def pace(experiment: Experiment, image: float = 1e-3, **others: float) -> Pace:
    """The same pace for all methods, but for those named."""
    methods = {n: MethodPace(others.get(n, 1e-3), 0.0) for n in experiment.methods}
    return Pace(image, methods)


def test_time_goes_by_pace_and_slots(prepared: Prepared) -> None:
    plan, experiment = prepared.plan, prepared.experiment
    one, two = (expected(prepared, pace(experiment), slots) for slots in (1, 2))
    assert one.features == pytest.approx(1e-3 * sum(plan.images.values()))
    for stage in ("search", "final"):
        alone, shared = getattr(one, stage), getattr(two, stage)
        assert alone == pytest.approx({name: 2 * seconds for name, seconds in shared.items()})
    assert one.seconds - STARTUP == pytest.approx(2 * (two.seconds - STARTUP))
    slower = expected(prepared, pace(experiment, llrd=2e-3), 1)
    assert slower.search["llrd"] == pytest.approx(2 * one.search["llrd"])
    assert slower.search["frozen"] == one.search["frozen"]


def test_stopping_saves_some_of_the_search(prepared: Prepared) -> None:
    cells = [prepared.experiment.horizon("llrd", n) for n in prepared.partitions.values()]
    trials = prepared.experiment.trials("llrd")
    most = 1e-3 * trials * sum(cells)
    assert most / trials < expected(prepared, pace(prepared.experiment), 1).search["llrd"] < most


def test_validation_counts_as_often_as_it_is_judged(prepared: Prepared) -> None:
    free = pace(prepared.experiment)
    costly = Pace(free.image, {n: MethodPace(p.sample, 1e-3) for n, p in free.methods.items()})
    before, after = (expected(prepared, each, 1).final for each in (free, costly))
    assert all(after[name] > before[name] for name in before)


def test_each_final_fit_passes_the_test_images(prepared: Prepared) -> None:
    plan = prepared.plan
    more = dataclasses.replace(plan, images=plan.images | {"test": plan.images["test"] + 1000})
    methods = dict.fromkeys(prepared.experiment.methods, MethodPace(0.0, 1e-3))
    prepareds = (prepared, dataclasses.replace(prepared, plan=more))
    one, other = (expected(each, Pace(0.0, methods), 1) for each in prepareds)
    fits = sum(final_seeds(prepared.experiment, prepared.partitions).values())
    for name in methods:
        assert other.final[name] == pytest.approx(one.final[name] + fits * 1000 * 1e-3)
    assert other.search == one.search


def test_the_search_is_judged_by_no_more_images_than_it_asks_for(prepared: Prepared) -> None:
    few = dataclasses.replace(prepared, experiment=small("search.val_images=20", methods=SHARED))
    methods = dict.fromkeys(prepared.experiment.methods, MethodPace(0.0, 1e-3))
    one, other = (expected(each, Pace(1e-3, methods), 1) for each in (prepared, few))
    assert other.final == one.final
    assert other.search["llrd"] == pytest.approx(
        one.search["llrd"] * 20 / prepared.plan.images["val"]
    )


def test_a_forecast_names_its_machine_and_the_largest_cost() -> None:
    line = Forecast(4.0, {"frozen": 5.0, "llrd": 600.0}, {"llrd": 100.0}).describe(CLUSTER)
    assert line == (
        "expected on this machine's 2 slots: features 4 s (less where they are cached), search 10 "
        "min, final fits 2 min; "
        "12 min in all, the most for the search of llrd (10 min)"
    )


def test_what_cannot_be_timed_is_said(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Pace:
        raise RuntimeError("out of\nmemory")

    monkeypatch.setattr(tune.forecast, "_measured", fails)
    machines: Any = None
    assert forecast(prepared, machines) == "how long it will take is not known: out of memory"


def test_a_slot_is_timed_in_seconds(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune.calibration, "fetch", lambda found: found)
    monkeypatch.setattr(tune.calibration, "SECONDS", 0.5)
    calibrator = Calibrator(
        pretrained=prepared.pretrained,  # type: ignore[arg-type]
        experiment=prepared.experiment,
        precision="float32",
        boundaries=prepared.plan.boundaries,
        sample_flops={name: flops for name, (flops, _) in prepared.plan.sample_flops.items()},
        source=prepared.dataset.source,
        keys=prepared.dataset.train.keys[:8],
        threads=1,
    )
    found = calibrator.measure(0)
    assert 0 < found.image < 1
    assert set(found.methods) == set(SHARED)
    assert all(0 <= p.sample < 1 and 0 < p.judged < 1 for p in found.methods.values())
    assert found.methods["llrd"].sample > 0
    assert math.isfinite(expected(prepared, found, 2).seconds)
