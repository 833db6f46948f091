"""Where trials may go."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tune.workers.placement
from models.device import CONTEXT
from tune.workers.placement import ALIKE, LABEL, Placement

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
    assert not placement.lost(config("11-7"))


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


def test_a_trial_whose_machines_have_gone_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = placed(ROOM)
    nodes = [{"NodeID": "small", "Alive": True}, {"NodeID": "large", "Alive": True}]
    monkeypatch.setattr(tune.workers.placement.ray, "nodes", lambda: nodes)
    assert not placement.lost(config("11-7"))
    nodes[1]["Alive"] = False
    assert placement.lost(config("11-7"))
    assert not placement.lost(config("11"))


def test_what_waits_for_some_machines_is_no_more_than_they_take() -> None:
    """A queue for the large one would leave the small ones idle."""
    placement = placed(ROOM)  # two slots on each
    assert [placement.crowded(config("11-7"), waiting) for waiting in range(4)] == [
        *(False, False, True, True)
    ]
    assert not placement.crowded(config("11"), 9)
    request = placement.request({"config": config("11-7"), "anywhere": True})
    assert not request._kwargs


def test_the_same_gpu_under_another_driver_is_no_other_size() -> None:
    assert not placed({"a": 81559 << 20, "b": 81920 << 20}).mixed
    assert placed({"a": 40960 << 20, "b": 81920 << 20}).mixed
