"""What encodes images, without Ray: how many threads decode, what fails."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from errors import InputError
from models.augmentation import Augmentation
from models.config import AugmentationConfig, ModelConfig
from models.loading import Pretrained, load_pretrained
from tests.simulated_device import simulated
from tune.features.speed import WarmUp
from tune.features.worker import EncodeJob, EncoderWorker, ImageRef


class Watched:
    """A source that notes which threads ask it for images."""

    def __init__(self) -> None:
        self.threads: set[int] = set()
        self.least: set[int | None] = set()

    def digest(self, key: str) -> str:
        return key

    def image(self, key: str, least: int | None = None) -> Image.Image:
        self.threads.add(threading.get_ident())
        self.least.add(least)
        time.sleep(0.02)
        return Image.new("RGB", (24, 24))


def worker_of(pretrained: Pretrained, source: Watched, **settings: Any) -> EncoderWorker:
    handle: Any = None
    return EncoderWorker(
        pretrained=handle,
        source=source,
        augmentation=Augmentation(AugmentationConfig(), (24, 24)),
        batch_size=8,
        **{"dtype": "float32", "precision": "float32", "on_a_node": 1, **settings},
    )


@pytest.mark.parametrize(("cores", "on_a_node", "threads"), [(1, 1, 1), (6, 2, 3), (2, 4, 1)])
def test_they_are_a_containers_cores_shared_among_its_encoders(
    cores: int, on_a_node: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, pretrained = Watched(), load_pretrained(ModelConfig())
    monkeypatch.setattr("tune.features.worker.ray.get", lambda handle: pretrained)
    monkeypatch.setattr("os.cpu_count", lambda: 96)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(96), raising=False)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(cores))  # stands in for the quota
    worker = worker_of(pretrained, source, on_a_node=on_a_node)
    worker.encode(EncodeJob([ImageRef(str(i), str(i)) for i in range(24)], 0, ["head"]))
    assert len(source.threads) == threads


@pytest.mark.parametrize(
    ("scale", "dtype", "message"),
    [
        (1e38, "float32", "model: features at head are infinite or not numbers in float32; allow"),
        (1e38, "float16", "model: features at head are infinite or not numbers in float32; allow"),
        (1e7, "float16", "features.dtype: features at head do not fit float16; allowed: float32"),
    ],
)
def test_features_that_are_no_numbers_are_refused(
    scale: float, dtype: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the encoder where no other dtype would help."""
    pretrained = load_pretrained(ModelConfig())
    monkeypatch.setattr("tune.features.worker.ray.get", lambda handle: pretrained)
    worker = worker_of(pretrained, Watched(), dtype=dtype)
    with pytest.raises(InputError) as error:
        worker._stored(torch.full((2, 3), scale) * 10, "head")
    assert str(error.value).startswith(message)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("computed", [torch.float32, torch.bfloat16])
def test_what_comes_back_from_a_device_is_what_is_stored(
    dtype: str, computed: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = worker_of(load_pretrained(ModelConfig()), Watched(), dtype=dtype)
    x = 100 * torch.randn(8, 5, 32, generator=torch.Generator().manual_seed(0)).to(computed)
    with simulated() as meter:
        there = x.to("sim")
        meter.restart()
        found = worker._stored(there, "block 3")
    assert meter.fetched == found.nbytes
    assert sum(meter.waits.values()) == 2  # whether it is finite, and the values
    np.testing.assert_array_equal(found, x.float().numpy().astype(dtype))


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_an_encoder_that_overflows_in_half_precision_is_told(
    precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another features.dtype would change nothing, and the features would be paid for again."""
    pretrained = load_pretrained(ModelConfig())
    monkeypatch.setattr("tune.features.worker.ray.get", lambda handle: pretrained)
    worker = worker_of(pretrained, Watched(), dtype="float16", precision=precision)
    with pytest.raises(InputError) as error:
        worker._stored(torch.tensor([[1.0, torch.inf]]), "block 3")
    assert str(error.value) == (
        f"model.precision: features at block 3 are infinite or not numbers in {precision}; "
        "allowed: float32, or an encoder with sound weights"
    )


@pytest.mark.parametrize("view", [0, 1])
def test_an_image_that_cannot_be_prepared_is_named(
    view: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A strip of 1 x 30000 pixels ended the run in a MemoryError that named no file."""
    pretrained, good = load_pretrained(ModelConfig()), iter([True, False, True])

    def preprocess(image: Image.Image) -> Any:
        if next(good):
            return pretrained.preprocess(image)
        raise MemoryError

    broken = dataclasses.replace(pretrained, preprocess=preprocess)
    monkeypatch.setattr("tune.features.worker.ray.get", lambda handle: broken)
    monkeypatch.setenv("LOKY_MAX_CPU_COUNT", "1")
    worker = worker_of(pretrained, Watched())
    images = [ImageRef(digest, f"{digest}.png") for digest in "abc"]
    encoded = worker.encode(EncodeJob(images, view, ["head"]))
    assert encoded.broken == {"b": "MemoryError"}
    assert len(encoded.features["head"]) == 2


@pytest.mark.parametrize(("view", "least"), [(0, 72), (1, 118)])
def test_large_photos_are_read_to_what_the_encoder_and_the_closest_crop_need(
    view: int, least: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops have half of the image or more, and are 4:3 at most: 72 * sqrt(2 * 4 / 3) is 117.6."""
    source, pretrained = Watched(), load_pretrained(ModelConfig())
    monkeypatch.setattr("tune.features.worker.ray.get", lambda handle: pretrained)
    worker_of(pretrained, source).encode(EncodeJob([ImageRef("a", "a.png")], view, ["head"]))
    assert source.least == {least}


def sped_up(jobs: list[int], monkeypatch: pytest.MonkeyPatch, boundary: str = "head") -> list[Any]:
    """What jobs of so many images say of the speed; the clock goes a second at each look."""
    pretrained, seconds = load_pretrained(ModelConfig()), iter(range(1000))
    monkeypatch.setattr("tune.features.worker.ray.get", lambda handle: pretrained)
    monkeypatch.setattr("tune.features.worker.time.perf_counter", lambda: next(seconds))
    worker = worker_of(pretrained, Watched())
    images = [[ImageRef(f"{job}/{i}", "") for i in range(n)] for job, n in enumerate(jobs)]
    return [worker.encode(EncodeJob(job, 0, [boundary])).speed for job in images]


def test_a_job_tells_the_speed_of_its_fastest_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, small = sped_up([20, 4], monkeypatch)
    assert whole.images_per_second == 8  # a batch of 8 in a second
    assert "thread" in whole.device
    assert small is None
    assert sped_up([20], monkeypatch, "block 3") == [None]


def test_the_first_batch_of_a_process_is_encoded_again_if_that_takes_no_time() -> None:
    quick, slow = iter([0.9, 0.1, 0.2]), iter([5.0, 4.0])
    warm_up = WarmUp()
    assert [warm_up.timed(lambda: ("", next(quick)))[1] for _ in range(2)] == [0.1, 0.2]
    warm_up = WarmUp()
    assert [warm_up.timed(lambda: ("", next(slow)))[1] for _ in range(2)] == [5.0, 4.0]
