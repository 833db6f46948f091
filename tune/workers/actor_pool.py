"""Work spread over all slots by actors that stay warm from one job to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import ray

from errors import InputError, one_line
from models.micro_batches import is_out_of_memory
from tune.workers.machines import LostMachines
from tune.workers.object_store import fetch
from tune.workers.own_device import NoGpuError

Context = TypeVar("Context")
Job = TypeVar("Job")
LOOK = 5.0  # seconds between looks at which actors have lost their machines


class ActorPool:
    """Actors, one a slot, started as jobs come; in a `with` block they outlive the jobs.

    Ray's tasks would not do: Ray does not use a process again that ran a GPU task, so each job
    would pay for imports and weights anew. Nor would `ray.util.ActorPool`: it starts no actor
    itself, and leaves a job whose actor has gone to its fate. `nodes` counts machines with slots.
    """

    def __init__(
        self,
        slot: Mapping[str, float],
        slots: int,
        nodes: int = 1,
        look: float = LOOK,
        lost: LostMachines | None = None,
    ) -> None:
        self.slots = slots
        self._look, self._lost = look, lost or LostMachines(slot)
        self.on_a_node = max(1, slots // nodes)
        self._actor: Any = ray.remote(_Slot).options(
            num_cpus=slot["CPU"], num_gpus=slot.get("GPU", 0), max_restarts=3, max_task_retries=3
        )
        self._idle: list[Any] = []
        self._held = 0  # blocks, one within another

    def __enter__(self) -> Self:
        self._held += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._held -= 1
        if not self._held:
            self._release()

    def map(
        self, work: Callable[[Context, Job], Any], context: Context, jobs: Iterable[Job]
    ) -> Iterator[tuple[Job, Any]]:
        """Do `work(context, job)` for every job; yield (job, result) as jobs end.

        Ray starts an actor again elsewhere that was lost to a crash or with its machine, and does
        its job again. If that keeps failing, or the job raises an error, the result is a
        `RayError`, and the actor is not used again: it may be dead for good, or its CUDA context
        broken, and the jobs that follow would fail on it. An actor whose job raised an `InputError`
        is sound.

        A process unpickles the context once. Jobs are taken up only as actors become free, so that
        results do not pile up.
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
                ready, _ = ray.wait(list(running), num_returns=1, timeout=self._look)
                if not ready:
                    self._look_after(running, start)
                    continue
                actor, job = running.pop(ready[0])
                result = self._taken_back(actor, ready[0])
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
        """Give idle actors the jobs of actors that have no machine, and may never have one."""
        self._bury()
        waiting = [task for task, (actor, _) in running.items() if _state(actor) != "ALIVE"]
        self._lost.check(all_wait=len(waiting) == len(running) > 0 and not self._idle)
        for task, idle in zip(waiting, list(self._idle), strict=False):
            actor, job = running.pop(task)
            ray.kill(actor)
            self._idle.remove(idle)
            start(idle, job)

    def _taken_back(self, actor: Any, task: Any) -> Any:
        """Return a task's result, and keep its actor if that is sound."""
        try:
            result = ray.get(task)
        except ray.exceptions.RayError as error:
            if not isinstance(getattr(error, "cause", None), InputError):
                ray.kill(actor)
                return error
            result = error
        self._idle.append(actor)
        return result

    def _taken(self) -> Any:
        return self._idle.pop() if self._idle else self._actor.remote()

    def _bury(self) -> None:
        """Forget idle actors that are dead for good."""
        self._idle = [actor for actor in self._idle if _state(actor) != "DEAD"]

    def _release(self) -> None:
        while self._idle:
            ray.kill(self._idle.pop())


def result_of(result: Any, what: str) -> Any:
    """Return what `ActorPool.map` yielded for the job `what`, or raise its error.

    Raises:
        InputError: the job's own; or its process was lost again and again, mostly out of memory,
            or its GPU is gone.
        RayError: the job met a fault of this project.
    """
    if not isinstance(result, Exception):
        return result
    cause = getattr(result, "cause", None)
    if isinstance(cause, InputError):
        raise cause
    out_of_memory = isinstance(cause, RuntimeError) and is_out_of_memory(cause)
    machines_fault = out_of_memory or isinstance(cause, NoGpuError)
    if isinstance(result, ray.exceptions.RayTaskError) and not machines_fault:
        raise result
    reason = one_line(cause if machines_fault else result, 300)
    raise InputError(
        f"{what}: a process failed again and again: {reason}; what was done is kept: --resume "
        "goes on"
    ) from result


def _state(actor: Any) -> str | None:
    """ALIVE with a process, DEAD for good; else it waits to be started, or started again.

    The public way, `ray.util.state.get_actor`, needs a dashboard and asks it over HTTP.
    """
    known: dict[str, str] = ray._private.state.actors(actor._actor_id.hex())
    return known.get("State")


class _Slot:
    def do(self, work: Callable[[Any, Any], Any], handle: tuple[Any], job: Any) -> Any:
        return work(fetch(handle[0]), job)
