"""Work spread over all slots by actors that stay warm from one job to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import ray

from tune.sharing import fetch

Context = TypeVar("Context")
Job = TypeVar("Job")


class Pool:
    """Actors, one a slot, started as jobs come; in a `with` they outlive the jobs.

    Tasks would not do: a process that ran a GPU task is not used again, so that each would pay
    for imports and weights anew.

    Args:
        slot: resources of one actor.
        slots: at most so many actors.
        nodes: that they are spread over.
    """

    def __init__(self, slot: Mapping[str, float], slots: int, nodes: int = 1) -> None:
        self.slots = slots
        self.on_a_node = max(1, slots // nodes)
        self._actor: Any = ray.remote(_Slot).options(
            num_cpus=slot["CPU"],
            num_gpus=slot.get("GPU", 0),
            max_restarts=3,
            max_task_retries=3,
        )
        self._idle: list[Any] = []
        self._held = False

    def __enter__(self) -> Self:
        self._held = True
        return self

    def __exit__(self, *_: object) -> None:
        self._held = False
        self._release()

    def map(
        self, work: Callable[[Context, Job], Any], context: Context, jobs: Iterable[Job]
    ) -> Iterator[tuple[Job, Any]]:
        """Do `work(context, job)` for every job; yields (job, result) as jobs end.

        An actor lost to a crash or with its node is started again elsewhere, and its job with it;
        where that keeps failing, the result is a `RayError`.

        Args:
            work: run in the actors' processes.
            context: shared by all jobs of a process, which unpickles it once.
            jobs: taken up only as actors become free, so that results don't pile up.
        """
        handle = (ray.put(context),)  # nested: Ray would fetch a bare reference for each job
        queue = iter(jobs)
        running: dict[Any, tuple[Any, Job]] = {}
        try:
            for _, job in zip(range(self.slots), queue, strict=False):
                actor = self._idle.pop() if self._idle else self._actor.remote()
                running[actor.do.remote(work, handle, job)] = (actor, job)
            while running:
                (ready,), _ = ray.wait(list(running), num_returns=1)
                actor, job = running.pop(ready)
                try:
                    result = ray.get(ready)
                except ray.exceptions.RayError as error:
                    result = error
                for following in queue:
                    running[actor.do.remote(work, handle, following)] = (actor, following)
                    break
                else:
                    self._idle.append(actor)
                    if not self._held:
                        self._release()  # returns its memory to the others
                yield job, result
        finally:
            for actor, _ in running.values():
                ray.kill(actor)

    def _release(self) -> None:
        while self._idle:
            ray.kill(self._idle.pop())


class _Slot:
    """One process at work."""

    def do(self, work: Callable[[Any, Any], Any], handle: tuple[Any], job: Any) -> Any:
        return work(fetch(handle[0]), job)
