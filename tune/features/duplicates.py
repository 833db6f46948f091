"""The search for duplicates, beside the search and the final fits: it needs digests and hashes.

It runs in a process of its own on the driver's machine, at the lowest priority. A thread of the
driver would keep results waiting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import ray

from data import Duplicate, SplitContent, find_duplicates, pairs_of_splits
from errors import one_line
from tune.workers.machines import on_node

Pair = tuple[str, str]


class DuplicateSearch:
    """Compares splits in the background, as they come; `tell` gets a line if that fails.

    It ends with its `with` block.
    """

    def __init__(self, classes: Sequence[str], tell: Callable[[str], None]) -> None:
        self._classes, self._tell = classes, tell
        self._handles: dict[str, Any] = {}
        self._started: dict[Pair, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            ray.cancel(task, force=True)

    @property
    def _tasks(self) -> list[Any]:
        return [*dict.fromkeys(self._started.values())]

    def compare(self, contents: Mapping[str, SplitContent]) -> None:
        """Start to compare these splits, with one another and with all that came before."""
        self._handles |= {name: ray.put(content) for name, content in contents.items()}
        pairs = [pair for pair in pairs_of_splits([*self._handles]) if pair not in self._started]
        task = on_node(
            ray.get_runtime_context().get_node_id(),
            ray.remote(num_cpus=0, max_calls=1)(_compared),  # Ray's next task is not to be slow
        )
        found = task.remote([*self._handles], pairs, self._classes, *self._handles.values())
        self._started |= dict.fromkeys(pairs, found)

    def result(self, patience: float | None = None) -> list[Duplicate] | None:
        """Return what `find_duplicates` would of all splits; None if it failed.

        So it is, too, if it has not ended after `patience` seconds.
        """
        again = "--resume lists the duplicates"
        try:
            found = dict(zip(self._tasks, ray.get(self._tasks, timeout=patience), strict=True))
        except ray.exceptions.GetTimeoutError:
            self._tell(f"duplicates: no time is left; {again}")
            return None
        except ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            self._tell(f"duplicates: the search failed: {one_line(cause, 300)}; {again}")
            return None
        pairs = pairs_of_splits([*self._handles])
        return [each for pair in pairs for each in found[self._started[pair]][pair]]


def _compared(
    names: Sequence[str], pairs: Sequence[Pair], classes: Sequence[str], *contents: SplitContent
) -> dict[Pair, list[Duplicate]]:
    """Return the duplicates of each pair of splits."""
    os.nice(19)
    splits = dict(zip(names, contents, strict=True))
    return {pair: find_duplicates(splits, classes, [pair]) for pair in pairs}
