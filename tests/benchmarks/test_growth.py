"""Growth: each table can be asked for by itself, has a column for each size, and adds memory."""

from __future__ import annotations

import pytest

from benchmarks import growth

SMALL = {"IMAGES": (60, 120), "CLASSES": (3, 5), "TRIALS": (2, 3)}


@pytest.mark.parametrize("row", ["classes", "duplicates", "trials"])
def test_a_table_has_a_column_for_each_size(monkeypatch: pytest.MonkeyPatch, row: str) -> None:
    for name, sizes in SMALL.items():
        monkeypatch.setattr(growth, name, sizes)
    if row != "classes":  # a process of its own takes seconds to import
        monkeypatch.setattr(growth, "_apart", growth._with_memory)
    head, rule, *lines = growth.table([row]).splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines]
    assert [len(each) for each in cells] == [3] * len(lines)
    assert len(head.strip("| ").split(" | ")) == len(rule.strip("| ").split(" | ")) == 3
    assert cells[-1][0] == "memory, MB"
    assert len(cells) > 1
    assert all(figure[0].isdigit() for _, *figures in cells for figure in figures)
