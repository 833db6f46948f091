"""What one trial does to shared features, no other trial sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from data import FeatureStore
from tune.workers.object_store import SharedArray, SharedSplit

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
VALUES = np.arange(4000, dtype=np.float32).reshape(100, 40)
DIGESTS = [f"{row:064x}" for row in range(100)]


@pytest.fixture
def shared() -> SharedArray:
    return SharedArray(ray.put(VALUES))


@ray.remote(num_cpus=0)
def write(handle: tuple[SharedArray], how: str) -> str:
    """Try to write in a worker's process; returns what stood in the way."""
    array: Any = handle[0].get()
    split = SharedSplit(np.zeros(len(array), dtype=np.int64), {"head": handle[0]})
    device: Any = torch.device("cpu")
    try:
        match how:
            case "at an index":
                array[0] = -1
            case "in place":
                np.multiply(array, 2, out=array)
            case "through a view":
                array.reshape(-1)[5:] = -1
            case "after asking to be let":
                array.setflags(write=True)
                array[0] = -1
            case "to a batch":
                batch, labels = split.examples("head").batch(np.arange(100), device, torch.float32)
                batch.mul_(2)
                labels.add_(1)
                return "a copy"
    except ValueError as error:
        return str(error)
    return "nothing"


@pytest.mark.parametrize(
    ("how", "stood"),
    [
        ("at an index", "read-only"),
        ("in place", "read-only"),
        ("through a view", "read-only"),
        ("after asking to be let", "WRITEABLE"),
        ("to a batch", "a copy"),
    ],
)
def test_a_write_to_shared_features_reaches_nobody(
    shared: SharedArray, how: str, stood: str
) -> None:
    assert stood in ray.get(write.remote((shared,), how))
    array: Any = shared.get()
    np.testing.assert_array_equal(array, VALUES)
    assert ray.get(total.remote((shared,))) == float(VALUES.sum())


@ray.remote(num_cpus=0)
def total(handle: tuple[SharedArray]) -> float:
    """As another process reads it."""
    return float(handle[0].get()[np.arange(len(VALUES))].sum())


def test_features_that_stay_on_disk_are_read_by_another_process(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, "test")
    store.add("head", DIGESTS, {"x": VALUES})
    on_disk = SharedArray(store.locate("head", DIGESTS)["x"])
    assert ray.get(total.remote((on_disk,))) == float(VALUES.sum())
    assert ray.get(write.remote((on_disk,), "to a batch")) == "a copy"
    assert ray.get(total.remote((on_disk,))) == float(VALUES.sum())
