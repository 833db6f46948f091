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


@pytest.fixture(params=["in the object store", "mapped from disk"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> SharedArray:
    if request.param == "in the object store":
        return SharedArray(ray.put(VALUES))
    store = FeatureStore(tmp_path, "test")
    store.add("head", DIGESTS, {"x": VALUES})
    array = store.map("head", DIGESTS)["x"]
    assert isinstance(array, np.memmap)
    return SharedArray(Path(str(array.filename)))


@ray.remote(num_cpus=0)
def write(handle: tuple[SharedArray], how: str) -> str:
    """Try to write in a worker's process; returns what stood in the way."""
    array = handle[0].get()
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
    np.testing.assert_array_equal(shared.get(), VALUES)
    assert ray.get(total.remote((shared,))) == float(VALUES.sum())


@ray.remote(num_cpus=0)
def total(handle: tuple[SharedArray]) -> float:
    """As another process reads it."""
    return float(handle[0].get().sum())
