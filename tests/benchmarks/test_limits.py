"""What the table's figures rest on: a machine's limits, operations and peaks of memory."""

from __future__ import annotations

import subprocess
import threading

import pytest
import torch

from benchmarks import limits
from benchmarks.limits import Machine, Peak, counted_flops, run_python


def test_the_slower_of_arithmetic_and_copying_decides() -> None:
    machine = Machine(flops=100.0, bandwidth=10.0)
    assert machine.seconds(200.0, 10.0) == 2
    assert machine.seconds(200.0, 30.0) == 3


def test_operations_of_a_product_are_counted() -> None:
    assert counted_flops(lambda: torch.ones(3, 5) @ torch.ones(5, 7)) == 2 * 3 * 5 * 7


def test_the_largest_sample_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "INTERVAL", 0.001)
    samples, taken = iter([1, 3, 2]), threading.Event()

    def take() -> int:
        sample = next(samples, 0)
        if not sample:
            taken.set()
        return sample

    with Peak(take) as peak:
        assert taken.wait(10)
    assert peak.largest == 3


def test_a_command_gives_its_output_or_an_error() -> None:
    output, seconds, _ = run_python(["-c", "print('done')"])
    assert output == "done\n"
    assert seconds > 0
    with pytest.raises(subprocess.CalledProcessError):
        run_python(["-c", "raise SystemExit(3)"])
