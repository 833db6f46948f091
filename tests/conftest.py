"""Fixtures of the whole suite, and how long the tests of each room take."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from search_spaces import Experiment

ON_GPU = "CLIP_TEST_GPU"
"""The environment variable by which `make gpu` lets tests marked gpu use one, and runs them."""
if ON_GPU not in os.environ:  # before torch and Ray look: they would train on it
    os.environ |= {"CUDA_VISIBLE_DEVICES": "", "HIP_VISIBLE_DEVICES": ""}

if "PYTEST_XDIST_WORKER" in os.environ:  # beside another worker, torch has one core
    os.environ["OMP_NUM_THREADS"] = "1"

signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and one under nohup this

hypothesis.settings.register_profile("tests", deadline=None)  # whatever else the machine does
hypothesis.settings.load_profile("tests")

LONGEST = (
    "test_killed_trials.py",
    "test_guard_rails.py",
    "test_cluster.py",
    "test_interruptions.py",
    "test_run.py",
    "test_full_places.py",
    "test_feature_stage.py",
    "test_storage_runs.py",
)
"""The files whose tests take a minute and more, longest first."""
ROOMS = "ROOM_SECONDS"
"""The environment variable that names a file; two runs of pytest that share it add up."""
seconds: Counter[str] = Counter()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that two processes end at about the same time.

    Tests on a GPU are skipped where it is hidden.
    """
    for item in items if ON_GPU not in os.environ else ():
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a GPU: make gpu"))
    place = {name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.name, len(LONGEST)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Add up seconds by the folder under tests/; fixtures count where they are first used."""
    folders = PurePosixPath(report.nodeid.split("::")[0]).parts[1:-1]
    seconds[folders[0] if folders else "tests/*.py"] += report.duration


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seconds of each room, those of an earlier run included (see `ROOMS`)."""
    if name := os.environ.get(ROOMS):
        file = Path(name)
        seconds.update(json.loads(file.read_text()) if file.exists() else {})
        file.write_text(json.dumps(seconds))
    terminalreporter.section("seconds of tests by room")
    for room, spent in seconds.most_common():
        terminalreporter.write_line(f"{spent:7.1f} {room}")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature cache for the session, apart from any user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CLIP_SEARCH_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[None]:
    """What Ray's processes get from their start: keys, and one folder for the files of all Rays.

    The folder is a short one, as sockets lie in it.
    """
    from tests.object_store import KEYS

    folder = tempfile.mkdtemp(prefix="r", dir="/tmp")
    os.environ |= KEYS | {"RAY_TMPDIR": folder}
    yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The session's one Ray, of two fake slots."""
    import ray

    ray.init(
        address="local",  # whatever else runs on this machine
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=300 << 20,
    )
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Experiment:
    """The shared run's experiment, with a further test set: 40 scans with grey levels inverted,
    one of them unreadable."""
    from tests.runs.helpers import SHARED, scans, small, write_csv, write_images

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
    from tests.runs.helpers import run_quietly

    out = tmp_path_factory.mktemp("results")
    run_quietly(shared, out)
    return out / "small"


@pytest.fixture(scope="session")
def bucket() -> Iterator[str]:
    """The URL of the one bucket in an object store; tests write to folders of their own."""
    from tests.object_store import object_store

    with object_store("runs") as url:
        yield url
