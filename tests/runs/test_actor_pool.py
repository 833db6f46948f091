"""Jobs spread over actors: what becomes of those whose actor has no machine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import ray

import tune.workers.actor_pool
import tune.workers.cluster
from errors import InputError
from search_spaces import ResourcesConfig
from tune.workers.actor_pool import ActorPool
from tune.workers.machines import LostMachines

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.timeout(120),  # a job that is never done is not waited for
]
SLOT = {"CPU": 1.0}


def one(_: Mapping[str, float]) -> dict[str, int]:
    """The slots of a machine with one, as where the other is not ours."""
    return {"here": 1}


def two(_: Mapping[str, float]) -> dict[str, int]:
    return {"here": 2}


def double(_: str, job: int) -> int:
    return 2 * job


def die_once(folder: str, job: int) -> int:
    try:
        (Path(folder) / str(job)).touch(exist_ok=False)
    except FileExistsError:
        return job
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def die_of_the_first(_: str, job: int) -> int:
    if job == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def break_at_the_first(_: str, job: int) -> int:
    """As where a kernel's fault leaves a CUDA context broken: nothing works in this process."""
    if job == 0:
        os.environ["BROKEN"] = "1"
    if "BROKEN" in os.environ:
        raise RuntimeError("an illegal memory access was encountered")
    return job


def refuse_the_second(_: str, job: int) -> int:
    if job == 1:
        raise InputError("the user can mend this")
    return os.getpid()


class Occupant:
    """Takes the place of a machine that has gone."""

    def here(self) -> None:
        pass


@pytest.fixture
def occupied(request: pytest.FixtureRequest) -> Iterator[None]:
    occupants: list[Any] = [ray.remote(num_cpus=1)(Occupant).remote() for _ in range(request.param)]
    ray.get([occupant.here.remote() for occupant in occupants])
    yield
    for occupant in occupants:
        ray.kill(occupant)


@pytest.mark.parametrize("occupied", [1], indirect=True)
@pytest.mark.usefixtures("occupied")
@pytest.mark.parametrize("held", [False, True])
def test_jobs_whose_actor_finds_no_machine_are_done_by_the_others(held: bool) -> None:
    pool = ActorPool(SLOT)
    if not held:
        assert dict(pool.map(double, "", range(5))) == {job: 2 * job for job in range(5)}
        return
    with pool:
        for _ in range(2):
            assert dict(pool.map(double, "", range(5))) == {job: 2 * job for job in range(5)}


@pytest.mark.parametrize("occupied", [2], indirect=True)
@pytest.mark.usefixtures("occupied")
def test_without_any_machine_jobs_end_in_one_line() -> None:
    lost = LostMachines(SLOT, lambda slot: {}, patience=0.5)
    with pytest.raises(InputError, match="no machine has had room"):
        list(ActorPool(SLOT, slots=two, look=0.1, lost=lost).map(double, "", range(5)))


def test_a_job_whose_process_is_killed_is_done_again(tmp_path: Path) -> None:
    jobs = ActorPool(SLOT).map(die_once, str(tmp_path), range(2))
    assert dict(jobs) == {0: 0, 1: 1}


@pytest.mark.parametrize("work", [die_of_the_first, break_at_the_first])
def test_the_jobs_after_one_that_ruins_its_process_are_done(work: Callable[..., int]) -> None:
    results = dict(ActorPool(SLOT, slots=one).map(work, "", range(4)))
    assert isinstance(results.pop(0), ray.exceptions.RayError)
    assert results == {1: 1, 2: 2, 3: 3}


def test_a_process_that_its_last_job_ruined_is_not_held() -> None:
    with ActorPool(SLOT, slots=one) as pool:
        list(pool.map(break_at_the_first, "", [0]))
        assert dict(pool.map(break_at_the_first, "", [1, 2])) == {1: 1, 2: 2}


def own_process(_: str, job: int) -> int:
    return os.getpid()


def test_a_block_within_a_block_leaves_the_processes() -> None:
    with ActorPool(SLOT, slots=one) as pool:
        with pool:
            first = dict(pool.map(own_process, "", [0]))
        assert dict(pool.map(own_process, "", [0])) == first
    assert not pool._idle


def test_an_actor_that_died_idle_is_given_nothing() -> None:
    with ActorPool(SLOT, slots=one) as pool:
        list(pool.map(double, "", [0]))
        ray.kill(pool._idle[0])
        while tune.workers.actor_pool._state(pool._idle[0]) != "DEAD":
            time.sleep(0.1)
        assert dict(pool.map(double, "", range(3))) == {0: 0, 1: 2, 2: 4}


def test_a_process_that_only_refused_its_job_goes_on() -> None:
    results = dict(ActorPool(SLOT, slots=one).map(refuse_the_second, "", range(3)))
    assert isinstance(results[1].cause, InputError)
    assert results[0] == results[2]


def test_machines_without_room_have_no_share_of_the_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    machines: list[dict[str, float]] = [{"memory": 1e9}, {"CPU": 8}, {"CPU": 8}]  # a head first
    nodes = [
        {"NodeID": str(number), "Alive": True, "Resources": machine}
        for number, machine in enumerate(machines)
    ]
    monkeypatch.setattr(ray, "nodes", lambda: nodes)
    with tune.workers.cluster.connected(ResourcesConfig(), None, 0) as cluster:
        assert ActorPool(cluster.slot).on_a_node == 8
        assert cluster.describe().startswith("3 machines, 16 CPUs")
