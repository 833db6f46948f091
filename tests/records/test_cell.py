from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from records import Cell


@given(st.integers(1, 100) | st.decimals("0.01", 100, places=2).map(float))
def test_groups_are_parsed_from_their_names(partition: float) -> None:
    cell = Cell(partition, "seed_llrd-2")
    assert Cell.parse(str(cell)) == cell
    assert hash(Cell.parse(str(cell))) == hash(cell)
