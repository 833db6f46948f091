"""A device that is none: tensors that say they lie on `sim:0`, computed on the CPU.

It shows what only a GPU would: an operation on tensors of two devices raises, and a `Meter` counts
launches, synchronisations, bytes that cross the bus, and memory, which may have a limit.

It rests on private parts of torch, so `simulated` skips the test where they are gone.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

NAME = "sim"
_backward = torch.autograd.backward
COPIES = {"aten::copy_", "aten::_to_copy", "aten::_copy_from"}
UNLAUNCHED = {"aten::_unsafe_view", "aten::_reshape_alias", "aten::is_same_size"}
"""Operations that compute nothing, beside views and empty tensors."""
WAITING = {
    *("aten::_local_scalar_dense", "aten::item", "aten::equal", "aten::is_nonzero"),
    *("aten::nonzero", "aten::masked_select", "aten::bincount", "aten::_unique2"),
    *("aten::linalg_cholesky", "aten::linalg_eigh", "aten::linalg_inv_ex"),
}
"""Operations whose result the CPU must know before it goes on."""


class Meter:
    """What the device was asked to do, and the memory it holds.

    Attributes:
        launches, waits: how often each operation was launched, or had the CPU wait for its result.
        sent, fetched: bytes copied to the device and from it.
        live, peak: bytes of all tensors there, now and at most since `restart`.
        limit: bytes beyond which it is out of memory.
    """

    def __init__(self) -> None:
        self.limit, self.live = float("inf"), 0
        self._held: dict[int, list[int]] = {}  # address to number of tensors and bytes
        self._in_backward = False
        self._short = 0  # bytes that were not there
        self.restart()

    def restart(self) -> None:
        """Count from here on."""
        self.launches: Counter[str] = Counter()
        self.waits: Counter[str] = Counter()
        self.sent = self.fetched = 0
        self.peak = self.live

    def take(self, tensor: Tensor, owner: object) -> None:
        """Count a tensor's memory for as long as `owner` lives; views of one storage count once.

        Raises:
            OutOfMemoryError: as a GPU does.
        """
        storage = tensor.untyped_storage()
        address, size = storage.data_ptr(), storage.nbytes()
        if not size:
            return
        if address not in self._held:
            if self.live + size > self.limit:
                self._short = size
                if not self._in_backward:
                    raise self._out_of_memory()
            self._held[address] = [0, size]
            self.live += size
            self.peak = max(self.peak, self.live)
        self._held[address][0] += 1
        weakref.finalize(owner, self._give, address)

    def backward(self, *arguments: Any, **options: Any) -> None:
        """Do as `torch.autograd.backward`, which ends the process if an operation raises."""
        self._in_backward, self._short = True, 0
        try:
            _backward(*arguments, **options)
        finally:
            self._in_backward = False
        if self._short:
            raise self._out_of_memory()

    def _out_of_memory(self) -> RuntimeError:
        return torch.OutOfMemoryError(f"{NAME} out of memory: tried to allocate {self._short}")

    def _give(self, address: int) -> None:
        held = self._held[address]
        held[0] -= 1
        if not held[0]:
            self.live -= held[1]
            del self._held[address]


class Owner:
    """Lives as long as its tensor: torch swaps no tensors that something weakly refers to."""


class SimulatedTensor(Tensor):
    """A tensor on the device, whose values `plain`, a tensor on the CPU, holds."""

    meter = Meter()
    recording: Any = None  # of `tests/simulated_graph.py`
    plain: Tensor

    @staticmethod
    def __new__(cls, plain: Tensor) -> SimulatedTensor:
        found: SimulatedTensor = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            plain.size(),
            strides=plain.stride(),
            storage_offset=plain.storage_offset(),
            dtype=plain.dtype,
            layout=plain.layout,
            device=torch.device(NAME, 0),
        )
        return found

    def __init__(self, plain: Tensor) -> None:
        self.owner = Owner()
        self.plain = plain
        self.meter.take(plain, self.owner)

    def __repr__(self, **_: Any) -> str:
        return f"on {NAME}: {self.plain}"

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.plain.__reduce_ex__(protocol)

    def tolist(self) -> Any:
        self.meter.waits["tolist"] += 1
        return self.plain.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert a tensor on {NAME} to numpy; copy it to the CPU first")

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})


class _Factories(TorchDispatchMode):
    """Tensors that are made on the device, such as zeros, are."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _run(function, args, kwargs or {})


def _run(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Do an operation on the CPU, as the device would."""
    leaves = tree_leaves((args, kwargs))
    there = [x for x in leaves if isinstance(x, SimulatedTensor)]
    here = [x for x in leaves if isinstance(x, Tensor) and not isinstance(x, SimulatedTensor)]
    target, name = kwargs.get("device"), function._schema.name
    goes = bool(there) if target is None else torch.device(target).type == NAME
    if not there and not goes:
        return function(*args, **kwargs)
    if name not in COPIES and (odd := [tuple(x.shape) for x in here if x.dim()] if there else []):
        raise RuntimeError(f"{name}: expected all tensors on {NAME}:0, but {odd} are on the CPU")
    _count(SimulatedTensor.meter, function, args, there, here, goes)
    if target is not None:
        kwargs = {**kwargs, "device": torch.device("cpu"), "pin_memory": False}
        kwargs = {key: value for key, value in kwargs.items() if key != "pin_memory" or value}
    args, kwargs = tree_map(_plain, (args, kwargs))
    found = _do(function, args, kwargs, here)
    own = {id(x.plain): x for x in there}  # what works in place returns what it was given

    def wrapped(x: Any) -> Any:
        if not isinstance(x, Tensor) or not goes:
            return x
        return own[id(x)] if id(x) in own else SimulatedTensor(x)

    return tree_map(wrapped, found)


def _do(function: Any, args: Any, kwargs: dict[str, Any], here: Sequence[Tensor] = ()) -> Any:
    """Do an operation on the CPU's tensors, of which some lie `here` indeed."""
    if SimulatedTensor.recording is None:
        return function(*args, **kwargs)
    return SimulatedTensor.recording.run(function, args, kwargs, here)


def _count(
    meter: Meter,
    function: Any,
    args: Any,
    there: list[SimulatedTensor],
    here: list[Tensor],
    goes: bool,
) -> None:
    name = function._schema.name
    if name in COPIES:
        to_device = goes if name == "aten::_to_copy" else isinstance(args[0], SimulatedTensor)
        if to_device and here:
            meter.sent += here[-1].nbytes
        elif not to_device:
            meter.fetched += there[-1].nbytes
            meter.waits[name] += 1
            return
    if name in WAITING or (name == "aten::index" and _masks(args[1])):
        meter.waits[name] += 1
    if not (function.is_view or name in UNLAUNCHED or "empty" in name):
        meter.launches[name] += 1


def _masks(indices: Any) -> bool:
    return any(isinstance(x, Tensor) and x.dtype == torch.bool for x in indices)


def _plain(x: Any) -> Any:
    return x.plain if isinstance(x, SimulatedTensor) else x


class _Module:
    """What torch asks of a device's module, `torch.sim`."""

    def is_available(self) -> bool:
        return True

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return 1

    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Do nothing: nothing is drawn there."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16, torch.float16]


@cache
def _registered() -> tuple[torch.library.Library, ...]:
    """Tell torch of the device, once in a process, for as long as what is returned lives.

    Half precision is float32 there: autocast does nothing, a loss scaler all it has to.

    Raises:
        ImportError, AttributeError, RuntimeError, TypeError: this torch has no such way.
    """
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend(NAME, _Module())

    def empty(size: Any, *, dtype: Any = None, **_: Any) -> Tensor:
        plain = _do(torch.ops.aten.empty.memory_format, (size,), {"dtype": dtype, "device": "cpu"})
        return SimulatedTensor(plain)

    def empty_strided(size: Any, stride: Any, *, dtype: Any = None, **_: Any) -> Tensor:
        there = {"dtype": dtype, "device": "cpu"}
        return SimulatedTensor(_do(torch.ops.aten.empty_strided.default, (size, stride), there))

    def copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
        _do(torch.ops.aten.copy_.default, (_plain(target), _plain(source)), {})
        return target

    def silu_backward(gradient: Tensor, x: Tensor) -> Tensor:  # else torch takes it apart
        given = _plain(gradient), _plain(x)
        return SimulatedTensor(_do(torch.ops.aten.silu_backward.default, given, {}))

    library = torch.library.Library("aten", "IMPL")
    for name, implemented in (
        ("empty.memory_format", empty),
        ("empty_strided", empty_strided),
        ("_copy_from", copy_from),
        ("silu_backward", silu_backward),
    ):
        library.impl(name, implemented, "PrivateUse1")
    every = torch.library.Library("_", "IMPL")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    return library, every


@contextlib.contextmanager
def simulated() -> Iterator[Meter]:
    """Have `torch.device("sim")` within the block; yields its meter, or skips the test."""
    try:
        _registered()
    except (ImportError, AttributeError, RuntimeError, TypeError) as error:
        pytest.skip(f"this torch has no devices in Python: {error}")
    before = SimulatedTensor.meter
    meter = SimulatedTensor.meter = Meter()
    # A module keeps its parameters, as on a GPU, only if torch may swap what is in them.
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        with (
            mock.patch("torch.autograd.backward", meter.backward),
            # In this thread: torch counts devices at a process's first backward pass.
            torch.autograd.set_multithreading_enabled(False),
            _Factories(),
        ):
            yield meter
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
        SimulatedTensor.meter = before
