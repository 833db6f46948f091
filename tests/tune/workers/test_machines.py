"""The slots of machines, and runs that have lost all machines."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from errors import InputError
from tests.tune.monitor.test_metrics import Hands
from tune.workers.machines import NO_MACHINE, LostMachines, slots_of


@pytest.mark.parametrize(
    ("node", "slot", "slots"),
    [
        ({"CPU": 16, "GPU": 4}, {"CPU": 1, "GPU": 0.25}, 16),
        ({"CPU": 16, "GPU": 4}, {"CPU": 1, "GPU": 0.3}, 12),
        ({"CPU": 2, "GPU": 4}, {"CPU": 1, "GPU": 1}, 2),
        ({"CPU": 0, "GPU": 4}, {"CPU": 1, "GPU": 1}, 0),
        ({"CPU": 4}, {"CPU": 1, "GPU": 1}, 0),
        ({"CPU": 4}, {"CPU": 1.5}, 2),
    ],
)
def test_slots_of_a_machine(node: dict[str, float], slot: dict[str, float], slots: int) -> None:
    assert slots_of(node, slot) == slots


def test_a_run_without_machines_ends_in_one_line() -> None:
    hands, busy = Hands(), True

    def slots(slot: Mapping[str, float]) -> dict[str, int]:
        return {"node": 1} if busy else {}

    lost = LostMachines({"CPU": 1}, slots, hands)
    for hour in range(9):  # another search has all machines
        hands.seconds = 3600.0 * hour
        lost.check(all_wait=True)
    busy = False
    for hour in range(9, 18):  # an actor has a machine: however long its job takes
        hands.seconds = 3600.0 * hour
        lost.check(all_wait=False)
    lost.check(all_wait=True)
    hands.seconds += NO_MACHINE
    lost.check(all_wait=True)
    hands.seconds += 1
    with pytest.raises(
        InputError, match=r"no machine has had room for a trial for 900 s; .*--resume"
    ):
        lost.check(all_wait=True)
