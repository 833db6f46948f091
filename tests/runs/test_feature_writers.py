"""Who reads images and writes features, on a real Ray; and what a killed writer leaves."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data import FeatureStore, FileSource, Split
from data.features import Arrays
from errors import InputError
from models.loading import Pretrained
from tests.runs.stages import BOUNDARIES, stage
from tune.features.stage import FeatureStage
from tune.features.writer import FeatureWriter

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]


def test_many_images_are_digested_by_the_workers(
    photos: Split, tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune.features.digesting.FEW", 0)
    monkeypatch.setattr("tune.features.digesting.PART", 5)
    source = FileSource(tmp_path)
    expected = tuple(source.digest(key) for key in photos.without([2, 3]).keys)

    def none(*_: object) -> None:
        raise AssertionError("the driver reads an image")

    monkeypatch.setattr(FileSource, "content", none)
    made = stage(tmp_path / "cache", pretrained, source, 1 << 30).run(
        {"train": photos}, BOUNDARIES, 0.5
    )
    assert made.contents["train"].split.digests == expected
    assert [Path(s.key).name for s in made.skipped] == ["2.png", "3.png"]


def test_features_pass_the_driver_by(
    photos: Split, tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    plain = FeatureWriter.adopt

    def adopt(writer: FeatureWriter, job: Any, written: Any) -> None:
        heard.append(len(pickle.dumps(written)))
        plain(writer, job, written)

    def none(*_: object) -> None:
        raise AssertionError("the driver writes features")

    monkeypatch.setattr(FeatureWriter, "adopt", adopt)
    monkeypatch.setattr(FeatureStore, "add", none)
    made = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 0).run(
        {"train": photos}, BOUNDARIES, 0.5, {"train": 1}, BOUNDARIES
    )
    assert sum(heard) < 4000 < made.splits["train"].features["block 11"].get().nbytes


def with_store(stage: FeatureStage, store: FeatureStore) -> FeatureStage:
    (cache,) = stage.caches
    return replace(stage, caches=(replace(cache, store=store),))


class Elsewhere(FeatureStore):
    """A store whose root is another disk on every other machine."""

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path, str]]:
        return FeatureStore, (self.root / "of another machine", self.fingerprint)


def test_a_cache_that_machines_do_not_share_is_one_line(
    photos: Split, tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.features.store.WAITS", ())
    shared = stage(tmp_path / "cache", pretrained, FileSource(tmp_path), 1 << 30)
    apart = with_store(shared, Elsewhere(tmp_path / "cache", "test"))
    with pytest.raises(InputError, match=r"^features.cache: .*is not seen here; .*same path$"):
        apart.run({"train": photos}, BOUNDARIES, 0.5)


class Dying(FeatureStore):
    """A store in whose first write a process is killed: half of a shard is on the disk."""

    def __reduce__(self) -> tuple[type[FeatureStore], tuple[Path, str]]:
        return Dying, (self.root, self.fingerprint)

    def add(self, boundary: str, digests: Sequence[str], features: Arrays) -> None:
        died = self.root.parent / "died"
        if not died.exists():
            died.touch()

            def die(descriptor: int) -> None:
                os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

            os.fsync = die
        super().add(boundary, digests, features)


def test_a_worker_killed_as_it_writes_leaves_no_torn_shard(
    photos: Split, tmp_path: Path, pretrained: Pretrained
) -> None:
    source, good = FileSource(tmp_path), photos.without([2, 3])
    shared = stage(tmp_path / "cache", pretrained, source, 1 << 30)
    dying = with_store(shared, Dying(tmp_path / "cache", "test"))
    made = dying.run({"train": good}, BOUNDARIES, 0)
    assert (tmp_path / "died").exists()
    whole = stage(tmp_path / "other", pretrained, source, 1 << 30).run(
        {"train": good}, BOUNDARIES, 0
    )
    for boundary in BOUNDARIES:
        found, expected = (each.splits["train"].features[boundary].get() for each in (made, whole))
        np.testing.assert_array_equal(found, expected)
    assert not list((tmp_path / "cache").rglob("*.corrupt"))
