"""Work spread over all slots by actors that stay warm from one job to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import ray

from tune.sharing import fetch

Context = TypeVar("Context")
Job = TypeVar("Job")


def over_slots(
    work: Callable[[Context, Job], Any],
    context: Context,
    jobs: Iterable[Job],
    slot: Mapping[str, float],
    slots: int,
) -> Iterator[tuple[Job, Any]]:
    """Do `work(context, job)` for every job; yields (job, result) as jobs end.

    Tasks would not do: a process that ran a GPU task is not used again, so that each would pay
    for imports and weights anew. An actor lost to a crash or with its node is started again
    elsewhere, and its job with it; where that keeps failing, the result is a `RayError`.

    Args:
        work: run in the actors' processes.
        context: shared by all jobs of a process, which unpickles it once.
        jobs: taken up only as actors become free, so that results don't pile up.
        slot: resources of one actor.
        slots: at most so many actors.
    """
    actor: Any = ray.remote(_Slot)
    options = {"num_cpus": slot["CPU"], "num_gpus": slot.get("GPU", 0)}
    handle = (ray.put(context),)  # nested: Ray would fetch a bare reference for each job
    queue = iter(jobs)
    running: dict[Any, tuple[Any, Job]] = {}
    try:
        for _, job in zip(range(slots), queue, strict=False):
            free = actor.options(**options, max_restarts=3, max_task_retries=3).remote()
            running[free.do.remote(work, handle, job)] = (free, job)
        while running:
            (ready,), _ = ray.wait(list(running), num_returns=1)
            free, job = running.pop(ready)
            try:
                result = ray.get(ready)
            except ray.exceptions.RayError as error:
                result = error
            for following in queue:
                running[free.do.remote(work, handle, following)] = (free, following)
                break
            else:
                ray.kill(free)  # returns its memory to the others
            yield job, result
    finally:
        for free, _ in running.values():
            ray.kill(free)


class _Slot:
    """One process at work."""

    def do(self, work: Callable[[Any, Any], Any], handle: tuple[Any], job: Any) -> Any:
        return work(fetch(handle[0]), job)
