"""Jobs spread over actors: what becomes of those whose actor has no machine."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray

import tune.cluster
import tune.pool
from errors import InputError
from tune.pool import Pool

pytestmark = [
    pytest.mark.ray,
    pytest.mark.usefixtures("ray_session"),
    pytest.mark.timeout(120),  # a job that is never done is not waited for
]
SLOT = {"CPU": 1.0}


def double(_: str, job: int) -> int:
    return 2 * job


def die_once(folder: str, job: int) -> int:
    try:
        (Path(folder) / str(job)).touch(exist_ok=False)
    except FileExistsError:
        return job
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


@ray.remote(num_cpus=1)
class Occupant:
    """Takes the place of a machine that has gone."""

    def here(self) -> None:
        pass


@pytest.fixture
def occupied(request: pytest.FixtureRequest) -> Iterator[None]:
    occupants: list[Any] = [Occupant.remote() for _ in range(request.param)]
    ray.get([occupant.here.remote() for occupant in occupants])
    yield
    for occupant in occupants:
        ray.kill(occupant)


@pytest.mark.parametrize("occupied", [1], indirect=True)
@pytest.mark.usefixtures("occupied")
@pytest.mark.parametrize("held", [False, True])
def test_jobs_whose_actor_finds_no_machine_are_done_by_the_others(held: bool) -> None:
    pool = Pool(SLOT, slots=2)
    if not held:
        assert dict(pool.map(double, "", range(5))) == {job: 2 * job for job in range(5)}
        return
    with pool:
        for _ in range(2):
            assert dict(pool.map(double, "", range(5))) == {job: 2 * job for job in range(5)}


@pytest.mark.parametrize("occupied", [2], indirect=True)
@pytest.mark.usefixtures("occupied")
def test_without_any_machine_jobs_end_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune.pool, "LOOK", 0.1)
    monkeypatch.setattr(tune.cluster, "NO_MACHINE", 0.5)
    monkeypatch.setattr(tune.cluster, "slots_now", lambda slot: 0)
    with pytest.raises(InputError, match="no machine has had room"):
        list(Pool(SLOT, slots=2).map(double, "", range(5)))


def test_a_job_whose_process_is_killed_is_done_again(tmp_path: Path) -> None:
    jobs = Pool(SLOT, slots=2).map(die_once, str(tmp_path), range(2))
    assert dict(jobs) == {0: 0, 1: 1}
