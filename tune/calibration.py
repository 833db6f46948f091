"""A few steps of each kind, to learn how fast a slot is: for the forecast of `--dry-run`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import ray
import torch

from data import ImageSource, UnreadableImageError, perceptual_hash
from data.decoding import least_side
from errors import InputError
from models.config import PrecisionName
from models.device import Device
from models.encoder import HEAD, PIXELS, Encoder
from models.feature_dataset import FeatureDataset
from models.fit import Fit
from models.flops import group_flops, sample_flops
from models.loading import Pretrained
from models.recipe import Recipe
from models.selection import select
from search_spaces import Experiment
from tune.workers.object_store import fetch
from tune.workers.own_device import own_device

SECONDS = 8.0  # that all measurements of a slot may take, beside one of each kind
MOST = 6  # repetitions of one
BATCH = 16  # images that are encoded at a time
CLASSES, SOLVED = 10, 256  # classes, and images that a head is solved for


@dataclass(frozen=True)
class MethodPace:
    """Seconds that a method's fits take on a slot.

    Attributes:
        sample: a training sample, on average over the method's choices of layers; of a head that
            is solved for, a training image.
        judged: a validation image.
    """

    sample: float
    judged: float


@dataclass(frozen=True)
class Pace:
    """Seconds that images and fits take on a slot, where all slots are at work.

    Attributes:
        image: from a file to embeddings.
        methods: by method.
    """

    image: float
    methods: Mapping[str, MethodPace]


@dataclass(frozen=True, eq=False)
class Calibrator:
    """Measures the pace of a slot, in a process of its own.

    Images are a few real ones, and features random: what they are hardly matters for the time.

    Attributes:
        boundaries: those that are cached.
        sample_flops: mean operations of each method on one training sample.
        keys: of the images to decode.
        threads: that decode at once.
    """

    pretrained: ray.ObjectRef[Pretrained]
    experiment: Experiment
    precision: PrecisionName
    boundaries: Sequence[str]
    sample_flops: Mapping[str, float]
    source: ImageSource
    keys: Sequence[str]
    threads: int

    def measure(self, _: int) -> Pace:
        """Measure in this process; all slots do so at once."""
        torch.set_num_threads(max(1, int(self.experiment.resources.cpus_per_trial)))
        pretrained: Pretrained = fetch(self.pretrained)
        share = SECONDS / (2 + len(self.experiment.methods))
        image = self._decoding(pretrained, share) / self.threads + self._encoding(pretrained, share)
        methods = {
            name: self._method(name, pretrained.encoder, share) for name in self.experiment.methods
        }
        return Pace(image, methods)

    def _device(self) -> Device:
        return Device(own_device(self.experiment.resources.deterministic), self.precision)

    def _decoding(self, pretrained: Pretrained, seconds: float) -> float:
        keys = iter(self.keys)
        least = least_side(pretrained.size)

        def decode() -> None:
            image = self.source.image(next(keys), least)
            pretrained.preprocess(image)
            perceptual_hash(image)

        try:
            return _seconds(decode, seconds, most=min(MOST, len(self.keys) - 1))
        except UnreadableImageError:  # the run tells of it
            return 0.0

    def _encoding(self, pretrained: Pretrained, seconds: float) -> float:
        device, encoder = self._device(), pretrained.encoder
        encoder.to(device.torch)
        pixels = torch.zeros(BATCH, *encoder.shapes[PIXELS], device=device.torch)

        def encode() -> None:
            with device.autocast():
                encoder.features(pixels, [HEAD])[HEAD].float().cpu()

        try:
            return _seconds(encode, seconds) / BATCH
        finally:
            encoder.to("cpu")

    def _method(self, name: str, encoder: Encoder, seconds: float) -> MethodPace:
        recipe = Recipe(**self.experiment.methods[name].parsed.first())
        selection = select(recipe, encoder)
        boundary = selection.fed_from(self.boundaries)
        count = 2 * recipe.batch_size if recipe.takes_steps else SOLVED
        images = _images(encoder.shapes[boundary], count)
        fit = Fit(
            encoder,
            selection,
            boundary,
            images,
            images,
            classes=CLASSES,
            horizon=10**9,
            seed=0,
            average=self.experiment.final.ema and not recipe.frozen_encoder,
            device=self._device(),
        )
        judged = _seconds(fit.evaluate, seconds / 2, most=2) / count
        if not recipe.takes_steps:
            whole = _seconds(lambda: fit.train_until(1), seconds / 2, most=1)
            return MethodPace(max(0.0, whole / count - judged), judged)
        step = _seconds(lambda: fit.step().cpu(), seconds / 2) / fit.batch_size
        own = sample_flops(encoder, group_flops(encoder), selection, boundary)
        return MethodPace(step * (self.sample_flops[name] / own if own else 1.0), judged)


def _images(shape: Sequence[int], count: int) -> FeatureDataset:
    """Make features (count, …) of images that lie about their class."""
    draw = np.random.default_rng(0)
    labels = np.arange(count) % CLASSES
    classes = draw.standard_normal((CLASSES, *shape), dtype=np.float32)
    features = classes[labels] + draw.standard_normal((count, *shape), dtype=np.float32)
    return FeatureDataset(features, labels, np.arange(count))


def _seconds(work: Callable[[], object], seconds: float, most: int = MOST) -> float:
    """Return the median seconds of `work`, repeated for so long; the first time warms up."""
    work()
    took: list[float] = []
    while not took or (sum(took) < seconds and len(took) < most):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return float(np.median(took))


def mean_pace(paces: Sequence[Pace]) -> Pace:
    """Average the paces of some slots.

    Raises:
        InputError: there are none.
    """
    if not paces:
        raise InputError("no slot could be timed")
    methods = {
        name: MethodPace(
            float(np.mean([pace.methods[name].sample for pace in paces])),
            float(np.mean([pace.methods[name].judged for pace in paces])),
        )
        for name in paces[0].methods
    }
    return Pace(float(np.mean([pace.image for pace in paces])), methods)
