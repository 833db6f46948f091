"""Where memory is short a batch is done in portions, and its result is the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from models.augmentation import Augmentation
from models.config import AugmentationConfig, ModelConfig
from models.encoder import Encoder
from models.fit import Fit
from models.loading import Pretrained, load_pretrained
from models.micro_batches import MicroBatches, cpu_on_oom
from tests.models.fits import tuning, weights
from tune.features.worker import EncoderWorker

Monkey = pytest.MonkeyPatch


class Memory:
    """Stands in for a device on which layers find room for so many examples at once."""

    def __init__(self, room: int) -> None:
        self.room, self.largest, self.refused = room, 0, 0

    def limit(self, module: nn.Module) -> None:
        module.register_forward_pre_hook(lambda _, inputs: self.take(inputs[0]))

    def take(self, x: Tensor) -> None:
        if len(x) > self.room:
            self.refused += 1
            raise torch.OutOfMemoryError(f"no memory for {len(x)} examples")
        self.largest = max(self.largest, len(x))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("cusolver error: CUSOLVER_STATUS_ALLOC_FAILED, when calling `cusolverDn…`"),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: HIPBLAS_STATUS_ALLOC_FAILED when calling `hipblasCreate`"),
        RuntimeError("NVML_SUCCESS == r INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp:1016"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
    ],
)
def test_no_memory_is_known_by_all_its_names(error: RuntimeError) -> None:
    def work(tried: int) -> int:
        if tried > 2:
            raise error
        return tried

    assert MicroBatches(8).run(work) == 2


@pytest.mark.parametrize(
    "words",
    [
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        "cusolver error: CUSOLVER_STATUS_NOT_INITIALIZED",
    ],
)
def test_a_library_that_found_no_memory_to_begin_is_tried_again_once(words: str) -> None:
    """A broken GPU says the same, for ever."""

    def work(tried: int) -> int:
        if tried > 4:
            raise RuntimeError(words)
        return tried

    assert MicroBatches(8).run(work) == 4
    with pytest.raises(RuntimeError, match=words.split()[2]):
        MicroBatches(16).run(work)


class OnDevice:
    """Stands in for a tensor on a device that may have no memory for work on it."""

    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind)

    def cpu(self) -> OnDevice:
        return OnDevice("cpu")


def test_what_a_device_has_no_room_for_is_done_on_the_cpu() -> None:
    error: RuntimeError = torch.OutOfMemoryError("CUDA out of memory")
    tried = []

    def work(data: Any) -> str:
        tried.append(data.device.type)
        if data.device.type != "cpu":
            raise error
        return "solved"

    on_gpu: Any = OnDevice("cuda")
    assert cpu_on_oom(work, on_gpu) == "solved"
    assert tried == ["cuda", "cpu"]
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        cpu_on_oom(work, on_gpu)

    def full(data: Any) -> str:
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(torch.OutOfMemoryError):
        cpu_on_oom(full, on_gpu.cpu())


def test_other_errors_are_no_reason_for_smaller_portions() -> None:
    tried = []

    def work(size: int) -> None:
        tried.append(size)
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="mat1"):
        MicroBatches(8).run(work)
    assert tried == [8]


def short_of_memory(fit: Fit, room: int) -> Memory:
    memory = Memory(room)
    memory.limit(fit.model.groups[-1])
    return memory


@given(st.integers(1, 300), st.integers(1, 300))
def test_the_size_is_halved_until_it_fits_and_stays(size: int, room: int) -> None:
    portions = MicroBatches(size)

    def work(tried: int) -> int:
        if tried > room:
            raise torch.OutOfMemoryError
        return tried

    found = portions.run(work)
    assert min(size, room) / 2 <= found <= min(size, room)
    assert portions.size == found
    assert portions.run(work) == found


def test_not_even_one_fits() -> None:
    tried: list[int] = []

    def work(size: int) -> None:
        tried.append(size)
        raise torch.OutOfMemoryError

    with pytest.raises(torch.OutOfMemoryError):
        MicroBatches(7).run(work)
    assert tried == [7, 4, 2, 1]


def test_other_errors_are_not_retried() -> None:
    def work(size: int) -> None:
        raise RuntimeError(str(size))

    with pytest.raises(RuntimeError, match="8"):
        MicroBatches(8).run(work)


@pytest.mark.parametrize("room", [1, 3, 5, 8])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_training_in_portions_is_training(encoder: Encoder, room: int, smoothing: float) -> None:
    whole, portioned = (
        tuning(encoder, average=True, dtype=torch.float64, label_smoothing=smoothing)
        for _ in range(2)
    )
    memory, refused = short_of_memory(portioned, room), []
    for until in (80, 160):
        one, other = whole.train_until(until), portioned.train_until(until)
        assert (other.samples, other.steps) == (one.samples, one.steps)
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-9)
        assert other.val_loss == pytest.approx(one.val_loss, rel=1e-6)
        refused.append(memory.refused)
    assert memory.largest <= room
    assert refused[1] == refused[0] > 0  # the sizes were found once
    found = weights(portioned)
    for name, tensor in weights(whole).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-6, atol=1e-9)


def test_what_a_failed_attempt_left_does_not_count(encoder: Encoder) -> None:
    """Memory may run out in the middle of a batch, with gradients of its first portions there."""
    plain, disturbed = (tuning(encoder, dtype=torch.float64) for _ in range(2))
    sizes: list[int] = []

    def runs_out(_: nn.Module, inputs: tuple[Tensor]) -> None:
        sizes.append(len(inputs[0]))
        if len(sizes) in (1, 3):
            raise torch.OutOfMemoryError

    disturbed.model.groups[-1].register_forward_pre_hook(runs_out)
    expected, found = plain.step(), disturbed.step()
    assert sizes == [8, 4, 4, 2, 2, 2, 2]
    torch.testing.assert_close(found, expected)
    for name, tensor in weights(plain).items():
        torch.testing.assert_close(weights(disturbed)[name], tensor, rtol=1e-6, atol=1e-9)


def test_a_device_without_room_for_one_example_is_an_error(encoder: Encoder) -> None:
    fit = tuning(encoder)
    short_of_memory(fit, 0)
    with pytest.raises(torch.OutOfMemoryError):
        fit.step()


def test_features_are_the_same_in_portions(monkeypatch: Monkey) -> None:
    pretrained = load_pretrained(ModelConfig())
    images = torch.randn(7, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    expected, _ = worker(pretrained, monkeypatch)._crossed(images, ["block 3", "head"])
    memory = Memory(2)
    limited = load_pretrained(ModelConfig())
    memory.limit(limited.encoder.groups[0])
    found, _ = worker(limited, monkeypatch)._crossed(images, ["block 3", "head"])
    assert memory.refused > 0
    assert memory.largest <= 2
    for boundary, array in expected.items():
        np.testing.assert_allclose(found[boundary], array, rtol=1e-4, atol=1e-5)


def worker(pretrained: Pretrained, monkeypatch: Monkey) -> EncoderWorker:
    """One in this process, without Ray."""
    load: Callable[[Any], Pretrained] = lambda handle: pretrained  # noqa: E731
    monkeypatch.setattr("tune.features.worker.ray.get", load)
    nothing: Any = None
    return EncoderWorker(
        pretrained=nothing,
        source=nothing,
        augmentation=Augmentation(AugmentationConfig(), (24, 24)),
        batch_size=7,
        dtype="float32",
        precision="float32",
        on_a_node=1,
    )
