"""Work spread over all slots by actors that stay warm from one job to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import ray

from errors import InputError, one_line
from models.micro_batches import is_out_of_memory
from tune.workers.cluster import LostMachines
from tune.workers.object_store import fetch

Context = TypeVar("Context")
Job = TypeVar("Job")
LOOK = 5.0  # seconds between looks at which actors have lost their machines


class Pool:
    """Actors, one a slot, started as jobs come; in a `with` they outlive the jobs.

    Tasks would not do: a process that ran a GPU task is not used again, so that each would pay
    for imports and weights anew.

    Args:
        slot: resources of one actor.
        slots: at most so many actors.
        nodes: that they are spread over, those without room for any left out.
    """

    def __init__(self, slot: Mapping[str, float], slots: int, nodes: int = 1) -> None:
        self.slots, self.gpu_share = slots, slot.get("GPU", 1.0)
        self._machines = LostMachines(dict(slot))
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
        where that keeps failing, or the job raises, the result is a `RayError`. Its actor is used
        no more, as it may be dead for good or its CUDA context broken: the jobs that follow would
        fail on it at once, one after the other. Only an `InputError` is the job's alone.

        Args:
            work: run in the actors' processes.
            context: shared by all jobs of a process, which unpickles it once.
            jobs: taken up only as actors become free, so that results don't pile up.
        """
        handle = (ray.put(context),)  # nested: Ray would fetch a bare reference for each job
        queue = iter(jobs)
        running: dict[Any, tuple[Any, Job]] = {}
        self._bury()

        def start(actor: Any, job: Job) -> None:
            running[actor.do.remote(work, handle, job)] = (actor, job)

        try:
            for _, job in zip(range(self.slots), queue, strict=False):
                start(self._taken(), job)
            while running:
                ready, _ = ray.wait(list(running), num_returns=1, timeout=LOOK)
                if not ready:
                    self._look_after(running, start)
                    continue
                actor, job = running.pop(ready[0])
                sound = True
                try:
                    result = ray.get(ready[0])
                except ray.exceptions.RayError as error:
                    result, sound = error, isinstance(getattr(error, "cause", None), InputError)
                if sound:
                    self._idle.append(actor)
                else:
                    ray.kill(actor)
                for following in queue:
                    start(self._taken(), following)
                    break
                else:
                    self._look_after(running, start)
                    if not self._held:
                        self._release()  # returns its memory to the others
                yield job, result
        finally:
            for actor, _ in running.values():
                ray.kill(actor)

    def _look_after(
        self, running: dict[Any, tuple[Any, Job]], start: Callable[[Any, Job], None]
    ) -> None:
        """Give idle actors the jobs of those that have no machine, and may never have one."""
        self._bury()
        waiting = [task for task, (actor, _) in running.items() if _state(actor) != "ALIVE"]
        self._machines.check(all_wait=len(waiting) == len(running) > 0 and not self._idle)
        for task, idle in zip(waiting, list(self._idle), strict=False):
            actor, job = running.pop(task)
            ray.kill(actor)
            self._idle.remove(idle)
            start(idle, job)

    def _taken(self) -> Any:
        return self._idle.pop() if self._idle else self._actor.remote()

    def _bury(self) -> None:
        """Forget idle actors that were lost meanwhile, and are not started again."""
        self._idle = [actor for actor in self._idle if _state(actor) != "DEAD"]

    def _release(self) -> None:
        while self._idle:
            ray.kill(self._idle.pop())


def result_of(result: Any, what: str) -> Any:
    """A job's result.

    Raises:
        InputError: the job's own, or one line on a process that was lost for good (memory, mostly).
        RayError: a fault of ours that the job met.
    """
    if not isinstance(result, Exception):
        return result
    cause = getattr(result, "cause", None)
    if isinstance(cause, InputError):
        raise cause
    memory = isinstance(cause, RuntimeError) and is_out_of_memory(cause)
    if isinstance(result, ray.exceptions.RayTaskError) and not memory:
        raise result
    reason = one_line(cause if memory else result, 300)
    raise InputError(
        f"{what}: a process failed again and again: {reason}; what was done is kept: --resume "
        "goes on"
    ) from result


def _state(actor: Any) -> str | None:
    """ALIVE with a process, DEAD for good; else not started yet, or lost and to be restarted."""
    known: dict[str, str] = ray._private.state.actors(actor._actor_id.hex())
    return known.get("State")


class _Slot:
    """One process at work."""

    def do(self, work: Callable[[Any, Any], Any], handle: tuple[Any], job: Any) -> Any:
        return work(fetch(handle[0]), job)
