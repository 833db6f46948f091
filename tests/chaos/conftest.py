from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.runs.helpers import ROOT


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a running cluster of one node with two slots, in a process of its own."""
    script = [sys.executable, "-m", "tests.chaos.lasting_cluster"]
    with subprocess.Popen(
        script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.communicate("", timeout=60)  # the end of its input ends it
