"""Fixtures of the whole suite."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One feature cache for the session, apart from any user's."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["CLIP_SEARCH_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """The session's one Ray, of two fake slots."""
    import ray

    ray.init(
        address="local",  # whatever else runs on this machine
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=300 << 20,
    )
    yield
    ray.shutdown()
