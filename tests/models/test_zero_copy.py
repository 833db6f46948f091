"""Weights that are shared: the same encoder, over memory that cannot be written to."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch

from models.config import ModelConfig
from models.encoder import PIXELS
from models.loading import load_pretrained
from models.towers import split_tower
from models.zero_copy import put_together, taken_apart
from tests.models.tiny_towers import TOWERS


@pytest.mark.parametrize("tower", TOWERS)
def test_what_comes_back_is_the_same_encoder(tower: str) -> None:
    encoder = split_tower(TOWERS[tower]())
    state = copy.deepcopy(encoder.state_dict())
    skeleton, weights = taken_apart(encoder)
    # Pickled without the weights it is small, whatever the encoder's size.
    assert all(tensor.is_meta for tensor in skeleton.state_dict().values())
    again = put_together(pickle.loads(pickle.dumps(skeleton)), weights)
    assert {n: (t.dtype, t.shape) for n, t in again.state_dict().items()} == {
        n: (t.dtype, t.shape) for n, t in state.items()
    }
    assert not any(tensor.is_meta for tensor in (*again.parameters(), *again.buffers()))
    assert not any(parameter.requires_grad for parameter in again.parameters())
    pixels = torch.rand(2, *encoder.shapes[PIXELS])
    assert torch.equal(again(pixels), encoder(pixels))
    assert all(torch.equal(encoder.state_dict()[name], tensor) for name, tensor in state.items())


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
def test_no_weight_is_copied_or_lost() -> None:
    pretrained = load_pretrained(ModelConfig())
    buffers: list[pickle.PickleBuffer] = []
    text = pickle.dumps(pretrained, protocol=5, buffer_callback=buffers.append)
    size = sum(4 * p.numel() for p in pretrained.encoder.parameters())
    assert len(text) < size / 10
    assert sum(buffer.raw().nbytes for buffer in buffers) == size
    frozen = [bytes(buffer) for buffer in buffers]  # memory that cannot be written to, as Ray's
    again = pickle.loads(text, buffers=frozen)
    addresses = [torch.frombuffer(memoryview(b), dtype=torch.float32).data_ptr() for b in frozen]
    assert sorted(p.data_ptr() for p in again.encoder.parameters()) == sorted(addresses)
    assert again.fingerprint == pretrained.fingerprint
    suffix = again.encoder.suffix("block 11")
    assert {p.data_ptr() for p in suffix.parameters()}.isdisjoint(addresses)


def test_a_tensor_with_two_names_stays_one() -> None:
    module = torch.nn.ModuleDict({"a": torch.nn.Linear(2, 2)})
    module["b"] = module["a"]
    module["c"] = torch.nn.Linear(2, 2)
    module["c"].weight = module["a"].weight
    module["d"] = torch.nn.BatchNorm1d(2)
    again = put_together(*taken_apart(module))
    assert again["c"].weight is again["a"].weight is again["b"].weight  # type: ignore[index]
    assert again.state_dict().keys() == module.state_dict().keys()
