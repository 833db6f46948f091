"""Tests leave the GPUs of their machine alone, but for those marked gpu."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ON_GPU

TESTS = Path(__file__).resolve().parent
SOURCES = [path for path in TESTS.rglob("*.py") if "ray" in path.read_text()]


@pytest.mark.skipif(ON_GPU in os.environ, reason="make gpu")
def test_torch_sees_none_whoever_starts_it() -> None:
    looks = "import torch; print(torch.cuda.device_count())"
    found = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True)
    assert found.stdout == "0\n"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(TESTS)))
def test_every_ray_that_a_test_starts_says_how_many_it_has(path: Path) -> None:
    """Otherwise Ray looks for them itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
        if name in ("ray.init", "Cluster", "cluster.add_node"):
            assert "num_gpus" in ast.unparse(node), f"line {node.lineno}"  # type: ignore[attr-defined]
