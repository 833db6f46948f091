"""Configurations in words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.formatting import _plain, describe, listed, span


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {
                "batch_size": 64,
                "blocks": "11-7",
                "head_lr": 1e-3,
                "kinds": "ln+attn",
                "llrd_decay": 0.75,
                "lr": 3e-4,
                "weight_decay": 0.01,
            },
            "ln+attn of blocks 11-7, lr 3e-4, head lr 1e-3, decay 0.75, wd 0.01, batch 64",
        ),
        (
            {"blocks": "none", "head_lr": 0.01, "weight_decay": 1e-4, "batch_size": 64},
            "linear probe, head lr 1e-2, wd 1e-4, batch 64",
        ),
        ({"head_lr": 0.1}, "linear probe, head lr 0.1"),
        ({"blocks": None, "head_lr": 1.0}, "linear probe, head lr 1"),
        ({"blocks": "11", "kinds": "mlp", "lr": 3.1847e-5}, "mlp of block 11, lr 3.2e-5"),
        ({"blocks": 11, "lr": 2e-2}, "block 11, lr 2e-2"),
        ({"blocks": "all", "kinds": "ln+attn+mlp"}, "ln+attn+mlp of all blocks"),
        ({"blocks": "11-7", "warmup": 0.07}, "blocks 11-7, warmup 7%"),
        (
            {"blocks": "11-7", "label_smoothing": 0.1, "head_start": "probe"},
            "blocks 11-7, label smoothing 0.1, head start probe",
        ),
        ({"blocks": "11-7", "lr": None}, "blocks 11-7"),
        ({"blocks": "last 5", "kinds": "ln"}, "ln of the last 5 blocks"),
        ({"blocks": "last 1"}, "the last block"),
        ({"blocks": "11-7", "weight_decay": 0, "llrd_decay": 1.0}, "blocks 11-7, decay 1, wd 0"),
        ({"blocks": "11-7", "mixup": 0.3, "nested": {"a": 1}}, "blocks 11-7"),
        ({}, "nothing to choose"),
        ({"blocks": "none", "solver": "none", "head_start": "zero_shot"}, "zero-shot"),
        (
            {"blocks": "none", "solver": "lbfgs", "weight_decay": 1e-3, "head_lr": 0.1},
            "linear probe (L-BFGS), L2 1e-3",
        ),
        (
            {"blocks": "none", "solver": "lbfgs", "weight_decay": 0.0, "views": 2},
            "linear probe (L-BFGS), L2 0, 2 augmented views",
        ),
        ({"blocks": "none", "solver": "adamw", "head_lr": 0.1}, "linear probe, head lr 0.1"),
        (
            {"blocks": "11", "views": 1, "head_start": "zero_shot"},
            "block 11, 1 augmented view, head start zero_shot",
        ),
        ({"blocks": "11", "views": 0}, "block 11"),
        (
            {"blocks": "final", "kinds": "proj", "head_lr": 0.0, "pull_to_start": 0.01},
            "proj of the final layers, head lr 0, pull to start 0.01",
        ),
        ({"blocks": "11", "pull_to_start": 0.0}, "block 11"),
    ],
)
def test_describe(config: dict[str, Any], words: str) -> None:
    tuned = config.get("blocks") not in (None, "none")
    untrained = config.get("solver") == "none"
    assert describe(config, "zero_shot" if untrained else "tuned" if tuned else "probe") == words


@given(st.floats(1e-8, 1e5))
def test_numbers_are_short_and_right_to_two_digits(value: float) -> None:
    text = _plain(value)
    assert float(text) == pytest.approx(value, rel=0.05)
    assert len(text) <= 6


def test_ranges_and_enumerations() -> None:
    assert span([40, 180, 90], str) == "40 to 180"
    assert span([0.31, 0.33], "{:.1f}".format) == "0.3"
    assert listed(["60", "70", "80"]) == "60, 70 and 80"
    assert listed(["60", "70"]) == "60 and 70"
    assert listed(["60"]) == "60"
