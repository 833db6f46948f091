"""Encoders side by side: features, probes and zero-shot are those of the ones that are joined."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from errors import InputError
from models.config import ModelConfig
from models.device import Device
from models.encoder import HEAD
from models.exported import (
    Description,
    adapted_model,
    exported_weights,
    load_adapted,
    save_exported,
)
from models.feature_dataset import FeatureDataset
from models.fit import Fit
from models.flops import group_flops
from models.head import LinearHead
from models.joined import join_arrays, join_heads
from models.loading import Pretrained, join_pretrained, load_pretrained
from models.package import write_package
from models.recipe import Recipe
from models.selection import select
from models.towers import split_tower
from models.zero_shot import Prompts
from tests.models.tiny_towers import IMAGE, native, timm

CPU = Device("cpu")


def preprocess(image: Image.Image) -> Tensor:
    """For towers that take images of `IMAGE` pixels."""
    pixels = np.asarray(image.resize((IMAGE, IMAGE)), np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.fixture(scope="module")
def parts() -> list[Pretrained]:
    """The bundled CLIP, and two towers of another width and for smaller images."""
    bundled = load_pretrained(ModelConfig(), Prompts(("one", "two", "three"), ("a {}.",)))
    towers = [
        Pretrained(split_tower(tower), preprocess, name)
        for name, tower in (("native", native()), ("timm", timm()))
    ]
    return [bundled, *towers]


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 255, (30, 30, 3)).astype(np.uint8)) for _ in range(30)]


def pixels_of(pretrained: Pretrained, images: list[Image.Image]) -> Tensor:
    return torch.stack([pretrained.preprocess(image) for image in images])


def embeddings(pretrained: Pretrained, images: list[Image.Image]) -> np.ndarray:
    made: np.ndarray = pretrained.encoder.features(pixels_of(pretrained, images), [HEAD])[
        HEAD
    ].numpy()
    return made


def test_embeddings_are_the_parts_own_to_the_bit(
    parts: list[Pretrained], images: list[Image.Image]
) -> None:
    joined = join_pretrained(parts)
    found = embeddings(joined, images)
    own = [embeddings(part, images) for part in parts]
    np.testing.assert_array_equal(found, join_arrays(own))
    begin, width = 0, found.shape[1]
    for one in own:
        piece = found[:, begin : begin + one.shape[1]]
        begin += one.shape[1]
        # As the embedding of one encoder has: a length of sqrt(width), in equal shares.
        np.testing.assert_allclose((piece**2).sum(axis=1), width / len(own), rtol=1e-5)
        np.testing.assert_allclose(
            piece / np.linalg.norm(piece, axis=1, keepdims=True),
            one / np.linalg.norm(one, axis=1, keepdims=True),
            rtol=1e-5,
            atol=1e-7,
        )
    assert begin == width == joined.encoder.dim


def test_a_part_of_the_same_width_is_joined_as_it_is(images: list[Image.Image]) -> None:
    one = np.random.default_rng(0).standard_normal((4, 6)).astype(np.float16)
    np.testing.assert_array_equal(join_arrays([one, one]), np.concatenate([one, one], axis=1))


def test_it_is_an_encoder_without_blocks_that_costs_what_its_parts_cost(
    parts: list[Pretrained],
) -> None:
    joined = join_pretrained(parts)
    assert joined.encoder.boundaries == ("pixels", "final", "head")
    counted = [sum(p.numel() for p in one.encoder.parameters()) for one in (joined, *parts)]
    assert counted[0] == sum(counted[1:])
    flops = [sum(group_flops(one.encoder)) for one in (joined, *parts)]
    assert flops[0] == sum(flops[1:])
    assert joined.size == max(part.size for part in parts)
    assert [one.encoder for one in joined.parts] == [part.encoder for part in parts]
    assert [one.size for one in joined.parts] == [part.size for part in parts]
    assert len({one.fingerprint for one in (joined, join_pretrained(parts[::-1]), *parts)}) == 5


def test_other_processes_get_the_same_one(
    parts: list[Pretrained], images: list[Image.Image]
) -> None:
    joined = join_pretrained(parts[:2])
    there: Pretrained = pickle.loads(pickle.dumps(joined))
    np.testing.assert_array_equal(embeddings(there, images), embeddings(joined, images))
    np.testing.assert_array_equal(embeddings(there.parts[1], images), embeddings(parts[1], images))


def test_zero_shot_is_the_mean_of_the_parts_logits(
    parts: list[Pretrained], images: list[Image.Image]
) -> None:
    draw = torch.Generator().manual_seed(0)
    own = [embeddings(part, images) for part in parts]
    heads = [
        LinearHead(torch.randn(4, one.shape[1], generator=draw), torch.randn(4, generator=draw))
        for one in own
    ]
    head = join_heads(heads)
    logits = [torch.from_numpy(x) @ h.weight.T + h.bias for x, h in zip(own, heads, strict=True)]
    found = torch.from_numpy(join_arrays(own)) @ head.weight.T + head.bias
    torch.testing.assert_close(found, torch.stack(logits).mean(dim=0), rtol=1e-4, atol=1e-4)


def test_there_is_no_zero_shot_where_one_part_has_no_text_tower(parts: list[Pretrained]) -> None:
    assert join_pretrained(parts).zero_shot is None
    twice = join_pretrained([parts[0], parts[0]])
    assert twice.zero_shot is not None
    assert twice.text_fingerprint not in ("", parts[0].text_fingerprint)


def test_a_probe_on_cached_features_is_one_on_images(
    parts: list[Pretrained], images: list[Image.Image]
) -> None:
    """What is fitted on the parts' caches classifies images, from pixels, by the same numbers."""
    joined, labels = join_pretrained(parts), np.arange(len(images)) % 3
    recipe = Recipe(blocks="none", solver="lbfgs", weight_decay=1e-2)
    selection = select(recipe, joined.encoder)

    def fitted(features: np.ndarray) -> Fit:
        examples = FeatureDataset(features, labels, np.arange(len(images)))
        fit = Fit(
            *(joined.encoder, selection, HEAD, examples, examples),
            classes=3, horizon=30, seed=0, average=False, device=CPU,
        )  # fmt: skip
        fit.train_until(30)
        fit.evaluate()
        return fit

    cached = fitted(join_arrays([embeddings(part, images) for part in parts]))
    direct = fitted(embeddings(joined, images))
    weights = exported_weights(cached)
    for key, weight in exported_weights(direct).items():
        assert torch.equal(weight, weights[key]), key
    description = Description(
        recipe=recipe, boundary=HEAD, model=ModelConfig(), fingerprint=joined.fingerprint,
        precision="float32", classes=("a", "b", "c"),
    )  # fmt: skip
    model = adapted_model(__file__, description, weights, joined)  # type: ignore[arg-type]
    found = model(pixels_of(joined, images))
    head = weights["head/weight"], weights["head/bias"]
    expected = (torch.from_numpy(embeddings(joined, images)) @ head[0].T + head[1]).softmax(-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_file_of_a_probe_classifies_photos_and_is_no_package(
    images: list[Image.Image], tmp_path: Path
) -> None:
    config = ModelConfig(concat=(ModelConfig(), ModelConfig(image_size=24)))
    joined, draw = load_pretrained(config), torch.Generator().manual_seed(0)
    weights = {
        "head/weight": torch.randn(3, joined.encoder.dim, generator=draw),
        "head/bias": torch.randn(3, generator=draw),
    }
    description = Description(
        recipe=Recipe(blocks="none"), boundary=HEAD, model=config, precision="float32",
        fingerprint=joined.fingerprint, classes=("a", "b", "c"),
    )  # fmt: skip
    path = tmp_path / "probe.safetensors"
    save_exported(path, description, weights)
    logits = torch.from_numpy(embeddings(joined, images)) @ weights["head/weight"].T
    expected = (logits + weights["head/bias"]).softmax(-1)
    torch.testing.assert_close(load_adapted(path).classify(images), expected, rtol=1e-4, atol=1e-5)
    nothing: Any = None
    with pytest.raises(InputError, match=r"a package is of one encoder.*allowed: .* predict"):
        write_package(tmp_path / "package", path, nothing)
    assert not (tmp_path / "package").exists()
