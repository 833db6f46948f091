"""The one training loop: a suffix of the encoder and its heads, from cached features.

`Fit.train_until` is the loop and `Fit.step` one step of it. A linear probe is the case of an empty
suffix, and unfreezing everything that of a whole one. A probe may also be solved exactly, and a
zero-shot classifier is not trained at all (`models/solvers.py`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from metrics import Metric, image_weights, measured
from models.calibration import fit_temperature, judged
from models.classifier import Classifier
from models.device import Device
from models.encoder import Encoder
from models.feature_dataset import FeatureDataset, ShuffleStream
from models.final_weights import average_decay
from models.frozen_weights import round_frozen
from models.gradients import GradientNorms
from models.head import HeadBank, LinearHead
from models.judging import head_losses, judge_heads
from models.losses import balanced_weights, mean_losses
from models.micro_batches import MicroBatches
from models.pull import PullToStart
from models.resident_features import resident
from models.results import Evaluation, score
from models.schedule import lr_share
from models.selection import Selection
from models.solvers import SOLVERS, DirectSolver, StepSolver
from models.step_graph import StepGraph
from models.update import Update

MAX_GRADIENT_NORM = 1.0  # of the suffix; as in open_clip's and BEiT's fine-tuning recipes


class Fit:
    """One recipe's training on one partition, from report to report.

    Args:
        encoder: copied from and never changed.
        boundary: where `train` and `val` hold features; one of the selection's.
        horizon: samples at which the learning rate reaches zero.
        seed: of the order of samples, of dropout, and of LoRA's first A.
        start: the head that every head starts as; zeros where None.
        average: whether to keep `average_weights`.
        metric: what accuracies on `val` are.
        cuda_graph: whether steps on a GPU are recorded, where they can be (`models/step_graph.py`).
        dtype: the type of the weights; float64 for tests of exactness.

    Attributes:
        images: the number of training images; views do not count.
        horizon: as given.
        samples: how many training samples have been seen, in `steps` steps.
        batch_size: of every step; no larger than an epoch.
        best: the best evaluation so far, of `best_weights`; None as long as none was finite.
        average_weights: exponential moving average of the weights over the steps, or None.

    Raises:
        ValueError: the recipe trains below `boundary`.
    """

    def __init__(
        self,
        encoder: Encoder,
        selection: Selection,
        boundary: str,
        train: FeatureDataset,
        val: FeatureDataset,
        *,
        classes: int,
        horizon: int,
        seed: int,
        start: LinearHead | None = None,
        average: bool = False,
        metric: Metric = "accuracy",
        device: Device | None = None,
        cuda_graph: bool = False,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.recipe = selection.recipe
        self.images = len(train)
        self.samples = self.steps = 0
        self.batch_size = min(self.recipe.batch_size, self.images)
        self.best: Evaluation | None = None
        self.best_weights: dict[str, Tensor] = {}
        self._best_at: list[int] = []  # `_now` when the best weights were these
        self._train, self._val, self.horizon, self._seed = train, val, horizon, seed
        self._metric = metric
        weights = image_weights(val.labels[val.rows], metric)
        # The image that counts least counts as much as one of this many.
        self._val_least = len(weights) / float(weights.min())
        self._device, self._dtype = device or Device("cpu"), dtype
        self._device.watch_memory()
        self._class_weights: Tensor | None = None
        if self.recipe.class_weights == "balanced":
            self._class_weights = balanced_weights(train, classes).to(self._device.torch, dtype)
        self._stream = ShuffleStream(len(train), seed, train.copies)
        self._micro_batches = MicroBatches(self.batch_size)
        self._train_loss = [math.nan] * len(self.recipe.bank)
        self._kept: int | None = None  # the head that is the mean of the best ones

        heads = HeadBank(len(self.recipe.bank), encoder.dim, classes).to(dtype)
        if start is not None:
            heads.set_heads([start] * len(self.recipe.bank))
        model = Classifier(encoder, selection, boundary, heads, lora_seed=seed)
        self.model = model.to(self._device.torch, dtype)
        if self._device.precision != "float32":
            round_frozen(self.model.groups, self._device.product_type())
        self._initial = self._weights_now(encoder, selection)
        self.average_weights = _copied(self.weights()) if average else None
        self._average = get_ema_multi_avg_fn(average_decay(self.batch_size, horizon))
        self._solver = SOLVERS[self.recipe.solver]
        names = {p: encoder.group(p.group).name for p in selection.parameters}
        places = {key: (name, p.kind) for p, name in names.items() for key in p.keys}
        self._gradients = GradientNorms(model.trained, places, MAX_GRADIENT_NORM)
        self._update = self._make_update(selection)
        recordable = cuda_graph and dtype == torch.float32 and self._update.recordable
        self._graph = StepGraph.on(self._device.torch, self._micro_batches) if recordable else None

    def train_until(self, samples: int, prospect: bool = False) -> Evaluation:
        """Train until `samples` samples have been seen since the fit began, then evaluate.

        What is solved, or not trained at all, has no samples to count: it is done at once.

        With `prospect`, `interpolated_score` is reported too, where layers are trained and the fit
        goes on. While the learning rate is high that says more of how a fit will end than its own
        score (docs/search.md).
        """
        if isinstance(self._solver, DirectSolver):
            self._solve(self._solver)
            self.samples = samples
        losses = []
        while self.samples < samples:
            losses.append(self.step())
        if losses:
            self._train_loss = torch.stack(losses).mean(0).tolist()
        evaluation = self.evaluate()
        if evaluation.finite and (self.best is None or evaluation.score > self.best.score):
            self.best, self.best_weights = evaluation, _copied(self.weights())
            self._best_at = self._now()
        if prospect and self.model.trained and self.samples < self.horizon:
            evaluation = replace(evaluation, prospect=self.interpolated_score())
        if losses and self.samples < self.horizon:  # all that takes memory has been done once
            copy = sum(weight.nbytes for weight in self.weights().values())
            both = self._val, self._train
            room = self._device.spare(self._graph is not None) - copy
            self._val, self._train = resident(both, self._device, room)
        return evaluation

    def step(self) -> Tensor:
        """Train on one batch; returns the loss (H,) of each head on it, before the update."""
        positions = self._stream.take(self.samples, self.batch_size)
        following = self.samples + self.batch_size
        if following < self.horizon and self._train.reads_ahead:
            self._train.announce(self._stream.take(following, self.batch_size))
        if self.model.trained:  # where a tower drops at random, a resumed fit drops the same
            torch.manual_seed(self._seed + self.samples)
        share = lr_share(self.samples, self.batch_size, self.horizon, self.recipe.warmup)
        numbers = self._update.numbers(share)
        if self._graph is None:
            losses = self._portioned(positions, numbers)
        else:
            losses = self._graph.step(self._train, positions, numbers, self._portioned, self._whole)
        self.samples += self.batch_size
        self.steps += 1
        return losses

    def _portioned(self, positions: NDArray[np.int64], numbers: Sequence[float | Tensor]) -> Tensor:
        losses = self._micro_batches.run(lambda size: self._backward(positions, size))
        self._change(numbers)
        return losses

    def _whole(self, x: Tensor, labels: Tensor, numbers: Sequence[float | Tensor]) -> Tensor:
        losses = self._add_gradients(x, labels, 1.0)
        self._change(numbers)
        return losses

    def _change(self, numbers: Sequence[float | Tensor]) -> None:
        self._update(numbers)
        if self.average_weights is not None:
            live: list[Tensor] = list(self.weights().values())
            self._average(list(self.average_weights.values()), live, None)

    def _backward(self, positions: NDArray[np.int64], size: int) -> Tensor:
        """Sum up the gradients of a batch's mean loss, `size` at a time; returns losses (H,)."""
        self._update.zero_grad()  # of an attempt that ran out of memory
        parts = []
        for begin in range(0, len(positions), size):
            portion = positions[begin : begin + size]
            x, labels = self._train.batch(portion, self._device.torch, self._dtype)
            parts.append(self._add_gradients(x, labels, len(portion) / len(positions)))
        return torch.stack(parts).sum(0)

    def _add_gradients(self, x: Tensor, labels: Tensor, share: float) -> Tensor:
        """Add the gradients of a `share` of a batch's mean loss; returns each head's (H,)."""
        with self._device.autocast():
            embeddings = self.model.embed(x)
        logits = self.model.head(embeddings.to(self._dtype))
        losses = mean_losses(logits, labels, self.recipe.label_smoothing, self._class_weights)
        losses = losses * share
        torch.autograd.backward(self._update.scaled(losses.sum()))
        return losses.detach()

    def _weights_now(self, encoder: Encoder, selection: Selection) -> dict[str, Tensor]:
        """Return the weights before training; the encoder's own, as nobody changes them."""
        factors = [key for p in selection.parameters if p.low_rank for key in p.keys]
        copied = _copied({key: self.model.trained[key] for key in factors} | self._head_weights())
        own = {p.key: encoder.group(p.group).get_parameter(p.name) for p in selection.parameters}
        return {key: weight.detach() for key, weight in own.items()} | copied

    def _make_update(self, selection: Selection) -> Update:
        solver = self._solver
        found = solver.optimizers(selection, self.model) if isinstance(solver, StepSolver) else []
        # Without trained layers nothing runs in half precision.
        scaler = (self._device if self.model.trained else Device("cpu")).scaler()
        return Update(found, scaler, self._gradients, self._pull_to_start())

    def _pull_to_start(self) -> PullToStart:
        """Return what draws every weight to where it is now; nothing where none is drawn."""
        if not (self.recipe.pull_to_start and self.model.trained):
            return PullToStart({}, 0.0)
        began, of_heads = self.initial_weights(), self._head_weights()
        factors = {key: self.recipe.head_lr[0] if key in of_heads else 1.0 for key in began}
        starts = {p: (began[key].to(p), factors[key]) for key, p in self.weights().items()}
        return PullToStart(starts, self.recipe.pull_to_start)

    def _solve(self, solver: DirectSolver) -> None:
        """Set every head of the bank to its solution, and note its loss on the training images."""
        train, heads, smoothing = self._train, self.model.head, self.recipe.label_smoothing
        embeddings = self.model.embeddings(train, self._device, train.copies)
        labels = torch.from_numpy(train.labels[train.rows]).repeat(train.copies)
        labels = labels.to(self._device.torch)
        self.steps = solver.solve(self.recipe, embeddings, labels, heads)
        self._average_best(min(self.recipe.top_k, len(self.recipe.bank)))
        self._train_loss = head_losses(heads, embeddings, labels, smoothing)

    @torch.no_grad()
    def _average_best(self, count: int) -> None:
        """Put the mean of the bank's best heads, by validation, in the place of the best one."""
        if count < 2:
            return
        *_, scores = self._judged()
        best = sorted(range(len(scores)), key=lambda head: -scores[head])[:count]
        self._kept = best[0]
        for weight in self.model.head.parameters():
            weight[self._kept] = weight[best].mean(dim=0)

    def _judged(self) -> tuple[list[float], list[float], list[float]]:
        """Return the accuracy, loss and score of every head on the validation split."""
        labels = self._val.labels[self._val.rows]
        embeddings = self.model.embeddings(self._val, self._device)
        accuracies, losses, scores = [], [], []
        for values, loss in judge_heads(self.model.head, embeddings, labels, self._metric):
            accuracies.append(measured(values))
            losses.append(loss)
            scores.append(score(accuracies[-1], loss, self._val_least))
        return accuracies, losses, scores

    def evaluate(self) -> Evaluation:
        """Evaluate the present weights on the validation split, by the best head of the bank."""
        accuracies, losses, scores = self._judged()
        best = self._kept
        if best is None:
            best = max(range(len(scores)), key=scores.__getitem__)
        return Evaluation(
            samples=self.samples,
            steps=self.steps,
            train_loss=self._train_loss[best],
            val_accuracy=accuracies[best],
            val_loss=losses[best],
            score=scores[best],
            head=best,
            weight_distance=self._weight_distance(),
        )

    def judge_again(self) -> None:
        """Evaluate the best weights on the validation split, which may have been another."""
        if self.best is None:
            return
        now, best = _copied(self.weights()), self.best
        self.set_weights(self.best_weights)
        judged = replace(self.evaluate(), samples=best.samples, steps=best.steps)
        self.best = replace(judged, train_loss=best.train_loss)
        self.set_weights(now)

    def validate(self, head: int) -> tuple[list[float], float]:
        """Return a value for each validation image, and the temperature of a head's logits.

        The mean of the values is the metric of the head.
        """
        labels = self._val.labels[self._val.rows]
        logits = self.logits(self._val, head)
        values = judged(logits, labels, self._metric).tolist()
        return values, fit_temperature(logits, torch.from_numpy(labels))

    def interpolated_score(self) -> float:
        """Score the weights half-way back to their start, 0 at least; the fit stays as it is."""
        now, holds_best = _copied(self.weights()), self._best_at == self._now()
        with torch.no_grad():
            for key, weight in self.weights().items():  # one at a time, as memory may be short
                weight.lerp_(self._initial[key].to(weight), 0.5)
        *_, scores = self._judged()
        self.set_weights(now)
        if holds_best:
            self._best_at = self._now()
        return max(0.0, *scores)

    def logits(self, examples: FeatureDataset, head: int = 0) -> Tensor:
        """Compute a head's logits (n, C) of `examples`, in order, on the CPU in float32."""
        return self.model.logits(examples, self._device, head)

    def weights(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by key; the parameters themselves."""
        return {**self.model.trained, **self._head_weights()}

    def _head_weights(self) -> dict[str, nn.Parameter]:
        return {f"head/{name}": p for name, p in self.model.head.named_parameters()}

    def initial_weights(self) -> dict[str, Tensor]:
        """Where `weights` began; those of the encoder lie on the CPU."""
        return {key: self._initial[key] for key in self.weights()}

    @torch.no_grad()
    def set_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Copy other values into `weights`."""
        for key, parameter in self.weights().items():
            parameter.copy_(weights[key])

    def restore_best(self) -> LinearHead:
        """Go back to the best evaluation's weights; returns its head.

        Raises:
            RuntimeError: no evaluation was finite.
        """
        if self.best is None:
            raise RuntimeError("the fit diverged: no evaluation was finite")
        self.set_weights(self.best_weights)
        return self.model.head.head(self.best.head)

    @torch.no_grad()
    def _weight_distance(self) -> float:
        """Relative L2 distance of the trained encoder weights from where they began."""
        squares = []
        for key, parameter in self.model.merged().items():
            began = self._initial[key].to(parameter)
            squares.append(torch.stack([(parameter - began).square().sum(), began.square().sum()]))
        if not squares:
            return 0.0
        moved, size = torch.stack(squares).double().sum(0).tolist()  # the device is waited for once
        return math.sqrt(moved / size) if size else 0.0

    def _now(self) -> list[int]:
        """Return numbers that are others once a step was taken or a weight was written to."""
        return [self.steps, *(weight._version for weight in self.weights().values())]

    def gradient_norms(self) -> dict[str, dict[str, float]]:
        """Layer group to kind to the root mean square of the gradient's norm; empty for probes."""
        return self._gradients.by_place()

    def state_dict(self) -> dict[str, Any]:
        """Collect what `load_state_dict` goes on from; weights that are also the best ones once."""
        return {
            "samples": self.samples,
            "steps": self.steps,
            "train_loss": self._train_loss,
            "weights": {key: p.detach() for key, p in self.weights().items()},
            "best": None if self.best is None else asdict(self.best),
            "best_weights": None if self._best_at == self._now() else self.best_weights,
            "average": self.average_weights,
            **self._update.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take up a fit of the same recipe and data where `state_dict` left it, bit by bit."""
        self.samples, self.steps = state["samples"], state["steps"]
        self._train_loss = state["train_loss"]
        self.set_weights(state["weights"])
        self.best = None if state["best"] is None else Evaluation(**state["best"])
        best = state["best_weights"]
        self.best_weights = _copied(state["weights"]) if best is None else best
        for key, average in (self.average_weights or {}).items():
            average.copy_(state["average"][key])
        self._update.load_state_dict(state)
        if self._graph is not None:
            self._graph.forget()


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: weight.detach().clone() for key, weight in weights.items()}
