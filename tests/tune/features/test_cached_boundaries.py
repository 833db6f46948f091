"""The planner's choice against trying every set."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tune.features.cached_boundaries import choose_boundaries

LEVELS = 7


@st.composite
def problems(draw: st.DrawFn) -> dict[str, object]:
    wanted = draw(st.dictionaries(st.integers(0, LEVELS - 1), st.integers(1, 9), min_size=1))
    return {
        "sizes": draw(st.lists(st.integers(1, 9), min_size=LEVELS, max_size=LEVELS)),
        "wanted": wanted,
        "forward": draw(st.lists(st.integers(0, 9), min_size=LEVELS, max_size=LEVELS)),
        "budget": draw(st.integers(0, 40)),
        "always": frozenset(draw(st.sets(st.sampled_from(sorted(wanted)), max_size=2))),
    }


def cost(chosen: tuple[int, ...], wanted: dict[int, int], forward: list[int]) -> int:
    """What trials run below their own boundary."""
    return sum(
        samples * sum(forward[max(c for c in chosen if c <= boundary) : boundary])
        for boundary, samples in wanted.items()
    )


@given(problems())
def test_no_set_that_fits_is_cheaper(problem: dict[str, object]) -> None:
    sizes, wanted, forward = problem["sizes"], problem["wanted"], problem["forward"]
    assert isinstance(sizes, list)
    assert isinstance(wanted, dict)
    assert isinstance(forward, list)
    needed = {min(wanted), *problem["always"]}  # type: ignore[misc]
    sets = [
        chosen
        for count in range(1, len(wanted) + 1)
        for chosen in itertools.combinations(sorted(wanted), count)
        if needed <= {*chosen}
    ]
    fitting = [s for s in sets if sum(sizes[i] for i in s) <= problem["budget"]]
    found = choose_boundaries(**problem)  # type: ignore[arg-type]
    assert found == tuple(sorted(found))
    if not fitting:
        assert {*found} == needed
        return
    assert found in fitting
    assert cost(found, wanted, forward) == min(cost(s, wanted, forward) for s in fitting)


def test_where_all_fit_all_are_chosen() -> None:
    wanted = {1: 5.0, 3: 1.0, 6: 2.0}
    assert choose_boundaries([4] * 8, wanted, [1] * 8, 12) == (1, 3, 6)


def test_the_boundary_that_is_asked_for_most_stays() -> None:
    forward = [10] * 8
    # Without 3 its 1 sample runs two cells more; without 6 its 2 samples run three.
    assert choose_boundaries([4] * 8, {1: 5.0, 3: 1.0, 6: 2.0}, forward, 8) == (1, 6)
    assert choose_boundaries([4] * 8, {1: 5.0, 3: 9.0, 6: 2.0}, forward, 8) == (1, 3)
