from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from partitions import Shots
from records import Cell
from records.layout import final_fit_path, is_final_fit

PERCENTS = st.integers(1, 100) | st.decimals("0.01", 100, places=2).map(float)


@given(PERCENTS | st.integers(1, 10**6).map(Shots))
def test_groups_are_parsed_from_their_names(partition: float | Shots) -> None:
    cell = Cell(partition, "seed_llrd-2")
    assert Cell.parse(str(cell)) == cell
    assert hash(Cell.parse(str(cell))) == hash(cell)


def test_no_two_cells_share_a_file() -> None:
    cells = [Cell(4, "shot-llrd"), Cell(Shots(4), "llrd"), Cell(4, "llrd"), Cell(Shots(4), "l")]
    paths = {final_fit_path(Path("run"), cell, 0) for cell in cells}
    assert len(paths) == len(cells)
    assert all(is_final_fit(path) for path in paths)
