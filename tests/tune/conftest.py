from __future__ import annotations

from pathlib import Path

import pytest

from tune.storage.storage import Storage


@pytest.fixture(params=["path", "file URL", "S3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Storage:
    """An empty folder."""
    if request.param == "S3":
        url = request.getfixturevalue("bucket")
        return Storage.at(url) / f"{request.node.name}"
    place = tmp_path / "storage"
    return Storage.at(place if request.param == "path" else place.as_uri())
