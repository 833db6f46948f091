"""Where trials may go, and which of them goes next."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.experiment import Trial

from errors import InputError
from models.device import CONTEXT
from tests.tune.monitor.test_metrics import Hands
from tune.workers.machines import LABEL, NO_MACHINE, LostMachines
from tune.workers.placement import (
    ALIKE,
    PATIENCE,
    Placement,
    TrialQueue,
    check_room,
)

SLOT = {"CPU": 1.0, "GPU": 1.0}
NEEDS = {("11", "ln"): (10, 1), ("11-7", "ln"): (1000, 100)}
ROOM = {"small": CONTEXT + 500, "large": 4 * CONTEXT}


def placed(
    room: dict[str, int], needs: dict[tuple[str, str], tuple[int, int]] = NEEDS
) -> Placement:
    return Placement(SLOT, room, dict.fromkeys(room, 2), needs)


def config(blocks: str, batch_size: int = 10) -> dict[str, Any]:
    return {"blocks": blocks, "kinds": "ln", "batch_size": batch_size}


def selector(placement: Placement, settings: dict[str, Any]) -> str | None:
    """The machines that Ray is asked for, as it is asked."""
    request = placement.request({"config": settings, "anywhere": False})
    assert request.bundles == [SLOT]
    asked = request._kwargs  # there is no public way
    return asked["bundle_label_selector"][0][LABEL] if asked else None


def test_what_fits_everywhere_goes_anywhere() -> None:
    placement = placed(ROOM)
    assert placement.mixed
    assert selector(placement, config("11")) is None
    assert selector(placement, config("none")) is None  # a probe
    assert selector(placement, config("0")) is None  # nothing is known of it


def test_what_does_not_goes_where_a_whole_batch_fits() -> None:
    placement = placed(ROOM)
    assert selector(placement, config("11-7")) == "in(large)"
    assert selector(placement, config("11", batch_size=400)) is None
    assert selector(placement, config("11", batch_size=500)) == "in(large)"


def test_what_fits_nowhere_goes_to_the_largest() -> None:
    room = {**ROOM, "as large": int(0.95 * ROOM["large"])}
    placement = placed(room, {("11", "ln"): (10 * CONTEXT, 1)})
    assert selector(placement, config("11")) == "in(as large,large)"


@pytest.mark.parametrize("room", [{}, {"a": 5}, {"a": CONTEXT, "b": CONTEXT}])
def test_nothing_is_asked_for_where_all_are_alike(room: dict[str, int]) -> None:
    placement = placed(room)
    assert not placement.mixed
    assert selector(placement, config("11-7")) is None


@given(
    st.dictionaries(st.text("abc", min_size=1), st.integers(1, 8 * CONTEXT), min_size=1),
    st.integers(0, 8 * CONTEXT),
    st.integers(0, 1 << 28),
)
def test_there_is_always_a_machine(room: dict[str, int], state: int, example: int) -> None:
    placement = placed(room, {("11", "ln"): (state, example)})
    chosen = placement.nodes(config("11"))
    if chosen is None:
        return
    assert chosen < room.keys()
    need = CONTEXT + state + 10 * example
    # None that is left out would have done as well.
    assert max(room[node] for node in room.keys() - chosen) < min(need, ALIKE * max(room.values()))
    assert any(room[node] == max(room.values()) for node in chosen)


def test_the_same_gpu_under_another_driver_is_no_other_size() -> None:
    assert not placed({"a": 81559 << 20, "b": 81920 << 20}).mixed
    assert placed({"a": 40960 << 20, "b": 81920 << 20}).mixed


# What fits nowhere, not even one image at a time

GB = 10**9
LARGE = {("11-7", "ln"): (GB, GB // 100), ("11-0", "ln+attn+mlp"): (72 * GB // 10, GB // 10)}


@pytest.mark.parametrize(
    ("card", "share", "advice"),
    [
        (80, 1, None),
        (80, 0.25, None),
        (24, 0.5, None),
        (24, 0.25, "resources.gpus_per_trial: 0.5, blocks: fewer of them"),
        (16, 0.5, "resources.gpus_per_trial: 1, blocks: fewer of them"),
        (10, 1, None),
        (8, 1, "blocks: fewer of them"),
        (8, 0.25, "blocks: fewer of them"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_the_setting_that_would_do(
    card: int, share: float, advice: str | None
) -> None:
    room = {"a": int(share * card * GB), "smaller": int(share * card * GB) // 4}
    if advice is None:
        check_room(LARGE, room, share)
        return
    with pytest.raises(InputError) as error:
        check_room(LARGE, room, share)
    line = str(error.value)
    assert line.startswith("methods: blocks 11-0 with kinds ln+attn+mlp take 7.3 GB of a GPU, and")
    assert f"allowed: {advice}" in line


def test_nothing_is_refused_without_gpus_or_training() -> None:
    check_room(LARGE, {}, 1.0)
    check_room({}, {"a": 1}, 0.5)


# Which trial goes next

NAMES = itertools.count()


def pending(settings: dict[str, Any] | None = None, anywhere: bool = False) -> Any:
    asked = {"config": settings or config("11"), "anywhere": anywhere}
    return SimpleNamespace(trial_id=str(next(NAMES)), status=Trial.PENDING, config=asked)


class Queued:
    """A queue for two machines, and what is there now."""

    def __init__(self, **room: int) -> None:
        self.hands, self.there = Hands(), set(room)
        lost = LostMachines(SLOT, lambda slot: dict.fromkeys(self.there, 2), self.hands)
        self.queue = TrialQueue(placed(room), lambda: self.there, lost, self.hands)

    def add(self, *trials: Any) -> None:
        for trial in trials:
            self.queue.add(trial)


@pytest.fixture
def queued() -> Queued:
    return Queued(**ROOM)


def test_a_free_actor_is_given_the_newest_trial(queued: Queued) -> None:
    """The others' own actors are starting, and Tune would kill the one whose trial it takes."""
    assert queued.queue.next() is None
    first, second, third = pending(), pending(), pending()
    queued.add(first, second, third)
    for _ in range(2):
        assert queued.queue.next() is third
    second.status = third.status = Trial.RUNNING
    assert queued.queue.next() is first
    first.status = Trial.TERMINATED
    assert queued.queue.next() is None


def test_a_trial_that_is_tried_again_is_counted_once(queued: Queued) -> None:
    first, second = pending(), pending()
    queued.add(first, second)
    first.status = Trial.RUNNING
    assert queued.queue.waiting == 1
    first.status = Trial.PENDING  # its machine is gone
    queued.add(first)
    assert queued.queue.waiting == 2
    assert queued.queue.next() is first  # the newest


def test_none_waits_for_ever_where_machines_are_lost(queued: Queued) -> None:
    first, second = pending(), pending()
    queued.add(first)
    queued.hands.seconds = PATIENCE
    queued.add(second)
    assert queued.queue.next() is second
    queued.hands.seconds += 1
    assert queued.queue.next() is first


def test_a_queue_without_machines_ends_in_one_line(queued: Queued) -> None:
    waits, runs = pending(), pending()
    runs.status = Trial.RUNNING
    queued.add(waits, runs)
    queued.there.clear()
    for hour in range(9):  # one runs: however long it takes
        queued.hands.seconds = 3600.0 * hour
        assert queued.queue.next() is waits
    runs.status = Trial.PENDING
    assert queued.queue.next() is waits
    queued.hands.seconds += NO_MACHINE + 1
    with pytest.raises(InputError, match="no machine has had room for a trial for 900 s"):
        queued.queue.next()


def test_a_trial_waits_not_for_ever_for_a_machine_that_it_fits_on(queued: Queued) -> None:
    waits, runs = pending(config("11-7")), pending()
    queued.add(waits, runs)
    runs.status = Trial.RUNNING
    for hour in range(9):  # it is busy
        queued.hands.seconds = 3600.0 * hour
        assert queued.queue.next() is waits
    queued.there.remove("small")
    assert queued.queue.next() is waits
    queued.there.clear()
    with pytest.raises(InputError, match=r"enough GPU memory for a trial for 900 s; .*--resume"):
        queued.queue.next()
    waits.config["anywhere"] = True
    assert queued.queue.next() is waits


def test_what_waits_for_the_large_machine_keeps_no_other_idle(queued: Queued) -> None:
    demanding = config("11-7")
    for _ in range(2):  # the large machine's slots
        assert not queued.queue.anywhere(demanding)
        queued.add(pending(demanding))
    assert queued.queue.waiting == 0  # for any machine: more may be proposed
    assert queued.queue.anywhere(demanding)  # the next of its kind
    assert not queued.queue.anywhere(config("11"))  # it goes anywhere by itself
    asked = pending(demanding, anywhere=True)
    assert not placed(ROOM).request(asked.config)._kwargs
    queued.add(asked)
    assert queued.queue.waiting == 1
