"""A search proposes what it proposed when `proposals.json` was recorded.

The file was written when each cell still kept an Optuna study beside its trials. To record it anew,
after a change that is meant to change proposals: `python -m tests.tune.search.test_proposals`.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.tune.search.simulated import FROZEN, LLRD, ZEROS, Simulation, experiment, rough

RECORDED = Path(__file__).with_name("proposals.json")
ONE, TWO = {"zeros": ZEROS}, {"frozen": FROZEN, "llrd": LLRD}
SMALL = {
    "blocks": {"choice": ["11", "all", "11-7"]},
    "head_start": "zeros",
    "warmup": {"choice": [0, 0.1]},
}
HEADS = {**LLRD["space"], "head_start": {"choice": ["probe", "zero_shot"]}}  # type: ignore[dict-item]
SEARCHES: dict[str, dict[str, Any]] = {
    "tpe": {"methods": TWO, "partitions": (10,), "trials": 18},
    "tpe and transfer": {"methods": ONE, "trials": 12, "transfer": 2},
    "hyperband": {"methods": ONE, "partitions": (1,), "trials": 14, "scheduler": "hyperband"},
    "to the horizon": {"methods": ONE, "partitions": (1,), "trials": 12, "scheduler": "none"},
    "random": {"methods": ONE, "partitions": (1,), "trials": 4, "sampler": "random"},
    "every configuration": {"methods": {"small": {"space": SMALL}}, "partitions": (1,)},
    "a probe's head": {
        "methods": {"frozen": FROZEN, "heads": {"space": HEADS}}, "partitions": (1,), "trials": 12
    },
}  # fmt: skip


def proposals(name: str, slots: int, folder: Path) -> list[list[Any]]:
    """Cell, number and configuration of everything that a search proposes, in its order."""
    spec = experiment(**{"sampler": "tpe", **SEARCHES[name]})
    simulation = Simulation(spec, folder / "events.jsonl", rough, slots, seed=3).run()
    made = [[str(p.cell), p.number, p.config] for p in simulation.proposals]
    plain: list[list[Any]] = json.loads(json.dumps(made))
    return plain


@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_proposes_what_was_recorded(name: str, slots: int, tmp_path: Path) -> None:
    recorded = json.loads(RECORDED.read_text())[f"{name}, {slots} slots"]
    made = proposals(name, slots, tmp_path)
    assert [p[:2] for p in made] == [p[:2] for p in recorded]
    for (_, _, config), (_, _, expected) in zip(made, recorded, strict=True):
        assert config.keys() == expected.keys()
        for parameter, value in expected.items():
            # Libraries for other processors may round the last digit of a logarithm otherwise.
            assert config[parameter] == (
                pytest.approx(value, rel=1e-9) if isinstance(value, float) else value
            )


def record() -> None:
    """Write what searches propose now."""
    found = {}
    for name in SEARCHES:
        for slots in (1, 4):
            with tempfile.TemporaryDirectory() as folder:
                found[f"{name}, {slots} slots"] = proposals(name, slots, Path(folder))
    lines = [
        f'  "{name}": [\n' + ",\n".join(f"    {json.dumps(p)}" for p in made) + "\n  ]"
        for name, made in found.items()
    ]
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    record()
