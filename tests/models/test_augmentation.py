"""A view is a function of its image, its number and what was asked for, and of nothing else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import ValidationError
from torchvision.transforms import v2

from models.augmentation import Augmentation
from models.config import AugmentationConfig

SIZE = (24, 24)
STRONG = AugmentationConfig(scale=(0.2, 1.0), color_jitter=0.4)
digests, numbers = st.text("0123456789abcdef", min_size=64, max_size=64), st.integers(1, 64)


def picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def pixels(image: Image.Image) -> list[int]:
    return list(np.asarray(image).flatten().tolist())


@given(digests, numbers, st.integers(0, 2**40), st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_a_view_is_the_same_whatever_came_before(
    digest: str, number: int, seed: int, draws: int
) -> None:
    expected = pixels(Augmentation(STRONG, SIZE).view(picture(), digest, number))
    torch.manual_seed(seed)
    augmentation = Augmentation(STRONG, SIZE)
    for draw in range(draws):
        augmentation.view(picture(), digest, draw + 1)
    before = torch.get_rng_state()
    assert pixels(augmentation.view(picture(), digest, number)) == expected
    assert torch.equal(torch.get_rng_state(), before)


@given(numbers)
@settings(max_examples=30, deadline=None)
def test_a_view_is_what_torchvision_draws_in_one_go(number: int) -> None:
    """So that features cached of views stay those of the views."""
    drawing = v2.Compose(
        [
            v2.RandomResizedCrop(
                SIZE, STRONG.scale, STRONG.ratio, v2.InterpolationMode.BICUBIC, antialias=True
            ),
            v2.RandomHorizontalFlip(STRONG.flip),
            v2.ColorJitter(*[STRONG.color_jitter] * 3),
        ]
    )
    augmentation = Augmentation(STRONG, SIZE)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(int(augmentation.view_digest("ab", number)[:15], 16))
        expected = drawing(picture())
    assert pixels(augmentation.view(picture(), "ab", number)) == pixels(expected)


@pytest.mark.parametrize("instances", [1, 4])
def test_a_view_is_the_same_whatever_other_threads_draw(instances: int) -> None:
    augmentations = [Augmentation(STRONG, SIZE) for _ in range(instances)]
    image = picture(200, 150)

    def drawn(number: int) -> list[int]:
        return pixels(augmentations[number % instances].view(image, "ab", number))

    numbers = range(1, 401)
    before = torch.get_rng_state()
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(drawn, numbers)) == list(map(drawn, numbers))
    assert torch.equal(torch.get_rng_state(), before)


def test_drawing_a_view_leaves_every_generator_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(seed: int) -> None:
        raise AssertionError("this would seed the GPUs' generators too")

    monkeypatch.setattr(torch, "manual_seed", refused)
    before, theirs = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    Augmentation(STRONG, SIZE).view(picture(), "ab", 1)
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], theirs)  # noqa: NPY002


def test_views_differ_by_number_and_by_digest() -> None:
    augmentation = Augmentation(STRONG, SIZE)
    views = [
        augmentation.view(picture(), digest, n) for digest in ("ab", "cd") for n in range(1, 9)
    ]
    assert len({tuple(pixels(view)) for view in views}) == 16
    assert {view.size for view in views} == {SIZE}


def test_the_size_is_height_by_width() -> None:
    view = Augmentation(AugmentationConfig(), (10, 20)).view(picture(), "ab", 1)
    assert (view.height, view.width) == (10, 20)


CONFIGS: list[dict[str, Any]] = [
    {},
    {"scale": (0.4, 1.0)},
    {"ratio": (1, 1)},
    {"flip": 0},
    {"color_jitter": 0.1},
]


@given(digests, numbers, numbers)
@settings(max_examples=30, deadline=None)
def test_a_views_name_says_all_that_it_depends_on(digest: str, one: int, other: int) -> None:
    augmentations = [Augmentation(AugmentationConfig(**config), SIZE) for config in CONFIGS]
    augmentations.append(Augmentation(AugmentationConfig(), (24, 32)))
    for augmentation in augmentations:
        assert augmentation.view_digest(digest, 0) == digest
    names = {augmentation.view_digest(digest, one) for augmentation in augmentations}
    assert len(names) == len(augmentations)
    first = augmentations[0]
    assert (first.view_digest(digest, one) == first.view_digest(digest, other)) == (one == other)
    assert first.view_digest(digest[::-1] + "0", one) not in names
    # Equal settings, equal names: 1 and 1.0 are one number.
    again = AugmentationConfig.model_validate({"flip": 0.5, "scale": [0.5, 1]})
    assert Augmentation(again, SIZE).view_digest(digest, one) == first.view_digest(digest, one)


def test_nothing_drawn_is_the_resized_image() -> None:
    config = AugmentationConfig(scale=(1, 1), ratio=(1, 1), flip=0)
    square = picture(40, 40)
    expected = square.resize(SIZE, Image.Resampling.BICUBIC)
    for number in range(1, 5):
        assert pixels(Augmentation(config, SIZE).view(square, "ab", number)) == pixels(expected)


def test_flip_is_a_probability() -> None:
    still: dict[str, Any] = {"scale": (1, 1), "ratio": (1, 1)}
    square = picture(24, 24)
    mirrored = pixels(square.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    always = Augmentation(AugmentationConfig(flip=1, **still), SIZE)
    assert pixels(always.view(square, "ab", 1)) == mirrored
    often = Augmentation(AugmentationConfig(flip=0.5, **still), SIZE)
    flipped = [pixels(often.view(square, "ab", number)) == mirrored for number in range(1, 201)]
    assert 70 <= sum(flipped) <= 130


@pytest.mark.parametrize("least", [0.1, 0.5])
def test_a_crop_keeps_at_least_the_least_share(least: float) -> None:
    """On a ramp from left to right the range of grey is the crop's share of the width."""
    ramp = np.broadcast_to(np.arange(200, dtype=np.uint8)[None, :, None], (200, 200, 3))
    image = Image.fromarray(np.ascontiguousarray(ramp))
    config = AugmentationConfig(scale=(least, 1), ratio=(1, 1), flip=0)
    augmentation = Augmentation(config, (200, 200))
    views = [np.asarray(augmentation.view(image, "ab", n)).astype(int) for n in range(1, 101)]
    shares = [((view.max() - view.min() + 1) / 200) ** 2 for view in views]
    assert min(shares) > least - 0.02
    assert min(shares) < least + 0.15
    assert max(shares) > 0.9


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"scale": (0, 1)}, "greater than 0"),
        ({"scale": (0.5, 1.5)}, "less than or equal to 1"),
        ({"scale": (0.9, 0.5)}, "scale: 0.9 to 0.5: the lesser value comes first"),
        ({"scale": 0.5}, "tuple"),
        ({"ratio": (2, 1)}, "ratio: 2 to 1: the lesser value comes first"),
        ({"ratio": (-1, 1)}, "greater than 0"),
        ({"ratio": (1, float("inf"))}, "(?i)finite"),
        ({"ratio": (float("nan"), 1)}, "greater than 0|finite"),
        ({"flip": 1.1}, "less than or equal to 1"),
        ({"flip": float("nan")}, "(?i)greater|less|finite"),
        ({"color_jitter": -0.1}, "greater than or equal to 0"),
        ({"blur": 1}, "not permitted"),
    ],
)
def test_bad_settings_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AugmentationConfig(**config)


@pytest.mark.parametrize(
    ("ratio", "times"), [((0.25, 1), 8**0.5), ((1, 4), 8**0.5), ((1, 1), 2**0.5)]
)
def test_a_view_enlarges_the_shorter_side_of_its_crop_most(
    ratio: tuple[float, float], times: float
) -> None:
    config = AugmentationConfig(scale=(0.5, 1), ratio=ratio)
    assert Augmentation(config, SIZE).enlargement == pytest.approx(times)
