from __future__ import annotations

from pathlib import Path

import pytest

from search_spaces.schema import Experiment
from tests.runs.helpers import METHODS, run_quietly, scans, small, write_csv, write_images

SHARED = ("zero_shot", *METHODS)
"""The methods of the shared run."""


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The shared run's experiment, with a further test set: 40 scans with grey levels inverted,
    one of them unreadable."""
    folder = tmp_path_factory.mktemp("phone")
    images, labels = scans(40, first=1000)
    names = write_images(folder, [image.point(lambda grey: 255 - grey) for image in images])
    (folder / names[7]).write_bytes(b"no image")
    source = write_csv(folder / "phone.csv", zip(names, labels, ["test"] * 40, strict=True))
    return small(
        f"data.extra_tests={{phone: {{source: '{source}'}}}}",
        "data.max_unreadable=0.05",
        methods=SHARED,
    )


@pytest.fixture(scope="session")
def results(
    shared: Experiment, ray_session: None, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The directory of a finished run; tests only read it, or work on a copy."""
    out = tmp_path_factory.mktemp("results")
    run_quietly(shared, out)
    return out / "small"
