"""Work spread over all slots by actors that stay warm from one job to the next."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self, TypeVar

import ray

from errors import InputError, one_line
from models.micro_batches import is_out_of_memory
from tune.workers.machines import BarredMachines, LostMachines, UnfitMachineError
from tune.workers.object_store import fetch
from tune.workers.own_device import NoGpuError
from tune.workers.survey import Admission

Context = TypeVar("Context")
Job = TypeVar("Job")
LOOK = 5.0  # seconds between looks at which actors have lost their machines


class ActorPool:
    """Actors, one a slot, started as jobs come; in a `with` block they outlive the jobs.

    Ray's tasks would not do: Ray does not use a process again that ran a GPU task, so each job
    would pay for imports and weights anew. Nor would `ray.util.ActorPool`: it starts no actor
    itself, and leaves a job whose actor has gone to its fate.

    Slots are counted anew as jobs end. Where the cluster `grows`, one actor more than there are
    slots is asked for, which tells an autoscaler that another machine would be used. What comes is
    asked by the `admission` before its first job; if it is unfit, the job is done elsewhere.
    """

    def __init__(
        self,
        slot: Mapping[str, float],
        grows: bool = False,
        slots: Callable[[Mapping[str, float]], Mapping[str, int]] | None = None,
        look: float = LOOK,
        lost: LostMachines | None = None,
        admission: Admission | None = None,
        barred: BarredMachines | None = None,
    ) -> None:
        self._admission, self._barred = admission, barred or BarredMachines()
        self._slot, self._grows = slot, grows
        self._slots_at = slots or self._barred.slots_at
        self._look, self._lost = look, lost or LostMachines(slot, self._barred.slots_at)
        self._options = {
            "num_cpus": slot["CPU"],
            "num_gpus": slot.get("GPU", 0),
            "max_restarts": 3,
            "max_task_retries": 3,
        }
        self._idle: list[Any] = []
        self._spare: Any = None  # waits for a machine to come, and has no job before
        self._held = 0  # blocks, one within another

    @property
    def slots(self) -> int:
        """Jobs that can be done at once, as the cluster is now; at least one."""
        return max(1, sum(self._slots_at(self._slot).values()))

    @property
    def on_a_node(self) -> int:
        """Jobs that a machine with slots does at once, on average; at least one."""
        found = self._slots_at(self._slot)
        return max(1, sum(found.values()) // max(1, len(found)))

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
            more = self._fill(queue, running, start)
            while running:
                ready, _ = ray.wait(list(running), num_returns=1, timeout=self._look)
                if not ready:
                    self._look_after(running, start)
                    more = more and self._fill(queue, running, start)
                    continue
                actor, job = running.pop(ready[0])
                result = self._taken_back(actor, ready[0])
                if isinstance(getattr(result, "cause", None), UnfitMachineError):
                    start(self._taken(), job)
                    continue
                more = more and self._fill(queue, running, start)
                if self._idle:
                    self._look_after(running, start)
                if not more and not self._held:
                    self._release()  # returns its memory to the others
                yield job, result
        finally:
            for actor, _ in running.values():
                ray.kill(actor)
            self._dismiss()

    def _fill(
        self,
        queue: Iterator[Job],
        running: dict[Any, tuple[Any, Job]],
        start: Callable[[Any, Job], None],
    ) -> bool:
        """Start jobs on all slots that there are now; return whether more may follow."""
        self._grow([actor for actor, _ in running.values()])
        for _ in range(self.slots - len(running)):
            for job in queue:
                start(self._taken(), job)
                break
            else:
                self._dismiss()
                return False
        return True

    def _grow(self, busy: list[Any]) -> None:
        """Ask for an actor beyond the slots, once those of all jobs are there; or put it to use."""
        if self._spare is None:
            if self._grows and busy and all(_state(actor) == "ALIVE" for actor in busy):
                self._spare = self._new()
        elif _state(self._spare) == "ALIVE":
            self._idle.append(self._spare)
            self._spare = None

    def _dismiss(self) -> None:
        if self._spare is not None:
            ray.kill(self._spare)
            self._spare = None

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
            cause = getattr(error, "cause", None)
            if isinstance(cause, UnfitMachineError):
                self._barred.bar(cause)
            if not isinstance(cause, InputError):
                ray.kill(actor)
                return error
            result = error
        self._idle.append(actor)
        return result

    def _taken(self) -> Any:
        return self._idle.pop() if self._idle else self._new()

    def _new(self) -> Any:
        beside = {"label_selector": self._barred.others()}
        actor: Any = ray.remote(_Slot).options(**self._options, **beside)
        return actor.remote(self._admission)

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
    def __init__(self, admission: Admission | None) -> None:
        self._admission = admission

    def do(self, work: Callable[[Any, Any], Any], handle: tuple[Any], job: Any) -> Any:
        if self._admission is not None:
            self._admission.check()
            self._admission = None
        return work(fetch(handle[0]), job)
