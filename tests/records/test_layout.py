"""Files of a run have names that people and programs find them by."""

from __future__ import annotations

from pathlib import Path

from records import Cell, checkpoint_name, final_fit_path, weights_path

RUN = Path("results/digits")


def test_files_are_named_by_cell_and_by_seed_or_trial() -> None:
    cell = Cell(12.5, "seed_llrd")
    assert final_fit_path(RUN, cell, 3) == RUN / "final_fits" / "12.5-seed_llrd-seed3.json"
    assert weights_path(RUN, cell, 3) == RUN / "winners" / "12.5-seed_llrd-seed3.safetensors"
    assert checkpoint_name(Cell(100.0, "llrd"), 7) == "100-llrd-7.pt"
