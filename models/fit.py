"""The one training loop: a suffix of the encoder and its head, from cached features.

A linear probe is the case of an empty suffix; unfreezing everything is the case of a whole one.
A probe may also be solved exactly, and a zero-shot classifier is not trained at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from models.averaging import WeightAverage, interpolated
from models.classifier import Classifier, trained_weights
from models.encoder import Encoder
from models.feature_dataset import Examples, SampleOrder
from models.gradients import GradientNorms, places_of
from models.head import BankAdamW, HeadBank, LinearHead
from models.micro_batches import MicroBatches, with_room
from models.precision import Precision
from models.recipe import Recipe, decays
from models.results import Evaluation, Polish, score
from models.solvers.lbfgs import solve_probes

MAX_GRADIENT_NORM = 1.0  # of the suffix; as in open_clip's and BEiT's fine-tuning recipes


class Fit:
    """One recipe's training on one partition, advanced from report to report.

    Args:
        encoder: the pretrained encoder; copied from, never changed.
        recipe: the settings.
        boundary: the boundary at which `train` and `val` hold features; at or below the recipe's.
        train, val: the examples.
        classes: C.
        horizon: samples at which the learning rate reaches zero.
        seed: of the order of samples.
        start: where the head starts; zeros without.
        average: whether to keep an average of the weights over the steps, for `polish`.
        precision: device, and what matrix products run in.
        dtype: of the weights; float64 for tests of exactness.
    """

    def __init__(
        self,
        encoder: Encoder,
        recipe: Recipe,
        boundary: str,
        train: Examples,
        val: Examples,
        *,
        classes: int,
        horizon: int,
        seed: int,
        start: LinearHead | None = None,
        average: bool = False,
        precision: Precision | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.recipe = recipe
        self.samples = self.steps = 0
        self._train, self._val = train, val
        self._horizon = horizon
        self._precision = precision or Precision("cpu")
        self._dtype = dtype
        self._order = SampleOrder(len(train), seed, train.copies)
        # No batch is larger than an epoch.
        self.batch_size = min(recipe.batch_size, len(train))
        self._portions = MicroBatches(self.batch_size)
        self._losses: list[Tensor] = []
        self._train_loss = [math.nan] * len(recipe.bank)
        self.best: Evaluation | None = None
        self._best_weights: dict[str, Tensor] = {}

        device = self._precision.device
        groups = encoder.suffix(boundary).to(device, dtype)
        bank = HeadBank(len(recipe.bank), encoder.dim, classes).to(device, dtype)
        if start is not None:
            bank.start_from(start)
        names = trained_weights(recipe, encoder, boundary)
        self.model = Classifier(groups, bank, min((i for i, _ in names), default=len(groups)))
        self._trained: dict[str, nn.Parameter] = {
            names[i, name]: parameter
            for i, group in enumerate(groups)
            for name, parameter in group.named_parameters()
            if (i, name) in names
        }
        for parameter in self._trained.values():
            parameter.requires_grad_()
        # Of the encoder no copy is needed: nobody changes it.
        pretrained = encoder.groups[encoder.index(boundary) :]
        self._began = _copied(self._head_weights()) | {
            given: pretrained[i].get_parameter(name).detach() for (i, name), given in names.items()
        }
        self._average = WeightAverage(self._weights(), horizon) if average else None
        self._optimizers: list[torch.optim.Optimizer] = [BankAdamW(bank, recipe.bank)]
        self._gradients: GradientNorms | None = None
        if names:
            self._optimizers.append(self._suffix_optimizer(encoder))
            places = places_of(recipe, encoder)
            self._gradients = GradientNorms(self._trained, places, MAX_GRADIENT_NORM)
        # Without trained layers nothing runs in half precision.
        self._scaler = self._precision.scaler() if names else Precision("cpu").scaler()

    def _suffix_optimizer(self, encoder: Encoder) -> torch.optim.AdamW:
        """AdamW over the trained parameters, grouped by peak rate and decay."""
        grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
        for (i, name), factor in self.recipe.trained_parameters(encoder).items():
            parameter = self._trained[f"{encoder.group(i).name}/{name}"]
            decay = self.recipe.weight_decay[0] if decays(name, parameter) else 0.0
            grouped.setdefault((factor * self.recipe.lr, decay), []).append(parameter)
        groups = [
            {"params": parameters, "peak": peak, "weight_decay": decay}
            for (peak, decay), parameters in grouped.items()
        ]
        return torch.optim.AdamW(groups, fused=True)

    @property
    def images(self) -> int:
        """Training images, views apart."""
        return len(self._train)

    @property
    def precision(self) -> str:
        """What matrix products run in."""
        return self._precision.name

    def rate_factor(self) -> float:
        """Share of the peak rate at this step: linear warm-up, then a cosine to zero."""
        warmup, seen = self.recipe.warmup, self.samples / self._horizon
        if seen < warmup:
            return min(1.0, (self.samples + self.batch_size) / (warmup * self._horizon))
        return 0.5 * (1 + math.cos(math.pi * min(1.0, (seen - warmup) / (1 - warmup))))

    def step(self) -> Tensor:
        """One batch; returns the loss (H,) of each head on it, before the update."""
        positions = self._order.take(self.samples, self.batch_size)
        losses = self._portions.fitted(lambda size: self._accumulate(positions, size))
        self._update()
        self.samples += self.batch_size
        self.steps += 1
        return losses

    def _accumulate(self, positions: NDArray[np.int64], size: int) -> Tensor:
        """Gradients of a batch's mean loss, `size` examples at a time; returns the loss (H,)."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)  # of an attempt that memory did not suffice for
        parts = []
        for begin in range(0, len(positions), size):
            portion = positions[begin : begin + size]
            x, labels = self._train.batch(portion, self._precision.device, self._dtype)
            with self._precision.autocast():
                embeddings = self.model.embed(x)
            logits = self.model.head(embeddings.to(self._dtype))
            losses = _mean_losses(logits, labels, self.recipe.label_smoothing)
            losses = losses * (len(portion) / len(positions))
            torch.autograd.backward(self._scaler.scale(losses.sum()))
            parts.append(losses.detach())
        return torch.stack(parts).sum(0)

    def _update(self) -> None:
        factor = self.rate_factor()
        for optimizer in self._optimizers:
            self._scaler.unscale_(optimizer)
            for group in optimizer.param_groups:
                if "peak" in group:
                    group["lr"] = factor * group["peak"]
                else:
                    group["factor"] = factor
        if self._gradients is not None:
            self._gradients.clip()
        for optimizer in self._optimizers:
            self._scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)  # evaluations need their memory
        self._scaler.update()
        if self._average is not None:
            self._average.update(self.batch_size)

    def advance(self, until: int, prospect: bool = False) -> Evaluation:
        """Train until `until` samples have been seen, then evaluate.

        What is solved, or not trained at all, has no samples to count: it is done at once.

        Args:
            prospect: whether to tell what the fit promises: its score with the trained layers
                and the head half-way back to their start. While the learning rate is high that
                says more of how a fit will end than its own score (docs/search.md).
        """
        if not self.recipe.trained:
            self._solve()
            self.samples = until
        while self.samples < until:
            self._losses.append(self.step())
        if self._losses:
            self._train_loss = torch.stack(self._losses).mean(0).tolist()
            self._losses.clear()
        evaluation = self._evaluate()
        if evaluation.finite and (self.best is None or evaluation.score > self.best.score):
            self.best = evaluation
            self._best_weights = _copied(self._weights())
        if prospect and self._trained and self.samples < self._horizon:
            now = self._best_weights if evaluation is self.best else _copied(self._weights())
            self._halve_the_way()
            evaluation = replace(evaluation, prospect=max(0.0, self._evaluate().score))
            self._set(now)
        return evaluation

    def _solve(self) -> None:
        """Set every head of the bank to its solution; `solver: none` leaves it as it is."""
        recipe, bank, device = self.recipe, self.model.head, self._precision.device
        embeddings = self.model.embeddings(self._train, self._precision, self._train.copies)
        labels = torch.from_numpy(self._train.labels[self._train.rows]).repeat(self._train.copies)
        labels = labels.to(device)
        if recipe.solver == "lbfgs":
            strengths = [decay for _, decay in recipe.bank]
            classes, smoothing = bank.weight.shape[1], recipe.label_smoothing
            heads, self.steps = with_room(
                lambda x, y: solve_probes(x, y, classes, strengths, smoothing), embeddings, labels
            )
            with torch.no_grad():
                bank.weight.copy_(torch.stack([head.weight for head in heads]))
                bank.bias.copy_(torch.stack([head.bias for head in heads]))
        with torch.no_grad():
            self._train_loss = [
                F.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing).item()
                for logits in bank.one_by_one(embeddings)
            ]

    @torch.no_grad()
    def _halve_the_way(self) -> None:
        """Set all weights half-way back to where they began."""
        for name, parameter in self._weights().items():
            parameter.lerp_(self._began[name].to(parameter), 0.5)

    def _weights(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        return {**self._trained, **self._head_weights()}

    def _head_weights(self) -> dict[str, nn.Parameter]:
        return {f"head/{name}": p for name, p in self.model.head.named_parameters()}

    @torch.no_grad()
    def restore_best(self) -> LinearHead:
        """Go back to the best evaluation's weights; returns its head.

        Raises:
            RuntimeError: no evaluation was finite.
        """
        if self.best is None:
            raise RuntimeError("the fit diverged: no evaluation was finite")
        self._set(self._best_weights)
        return self.model.head.head(self.best.head)

    def polish(self, alphas: Sequence[float]) -> Polish:
        """Choose by validation what to keep of a fit that trained the encoder, and set it.

        Candidates are the best evaluation's weights, the average over the steps (if it was
        kept), and the better one of the two drawn back towards the start by each of `alphas`. A
        tie stays with what comes first. The start itself (alpha 0) is no candidate.

        Raises:
            RuntimeError: no evaluation was finite.
        """
        self.restore_best()
        assert self.best is not None
        chosen, end = Polish(self.best, 1.0, False), self._best_weights
        if self._average is not None:
            whole = replace(self.best, samples=self.samples, steps=self.steps)
            evaluation = self._evaluated(self._average.weights, whole)
            if evaluation.finite and evaluation.score > chosen.evaluation.score:
                chosen, end = Polish(evaluation, 1.0, True), _copied(self._average.weights)
        weights, tuned = end, chosen.evaluation
        for alpha in sorted(alphas, reverse=True):
            between = interpolated(self._began, end, alpha)
            evaluation = self._evaluated(between, tuned)
            if evaluation.finite and evaluation.score > chosen.evaluation.score:
                chosen, weights = Polish(evaluation, alpha, chosen.averaged), between
        self._set(weights)
        self.best, self._best_weights = chosen.evaluation, weights
        return chosen

    def _evaluated(self, weights: Mapping[str, Tensor], trained: Evaluation) -> Evaluation:
        """Evaluate other weights in the place of these; how they were trained says `trained`."""
        self._set(weights)
        return replace(
            self._evaluate(),
            samples=trained.samples,
            steps=trained.steps,
            train_loss=trained.train_loss,
        )

    @torch.no_grad()
    def _set(self, weights: Mapping[str, Tensor]) -> None:
        for name, parameter in self._weights().items():
            parameter.copy_(weights[name])

    def exported(self) -> dict[str, Tensor]:
        """The best weights as they are kept: the trained ones by name, and the best head.

        `models.classifier.restored` makes a classifier of them again.
        """
        head = self.restore_best()
        weights = {name: p.cpu() for name, p in _copied(self._trained).items()}
        return weights | {"head/weight": head.weight.cpu(), "head/bias": head.bias.cpu()}

    def gradient_norms(self) -> dict[str, dict[str, float]]:
        """Layer group to kind to the root mean square of the gradient's norm; empty for probes."""
        return self._gradients.by_place() if self._gradients else {}

    def state(self) -> dict[str, Any]:
        """Tensors and numbers from which `load` goes on as if never interrupted."""
        return {
            "samples": self.samples,
            "steps": self.steps,
            "train_loss": self._train_loss,
            "weights": {name: p.detach() for name, p in self._weights().items()},
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
            "scaler": self._scaler.state_dict(),
            "best": None if self.best is None else asdict(self.best),
            "best_weights": self._best_weights,
            "average": None if self._average is None else self._average.weights,
            "gradients": None if self._gradients is None else self._gradients.state(),
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take up a fit of the same recipe and data where `state` left it."""
        self.samples, self.steps = state["samples"], state["steps"]
        self._train_loss = state["train_loss"]
        self._set(state["weights"])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._scaler.load_state_dict(state["scaler"])
        self.best = None if state["best"] is None else Evaluation(**state["best"])
        self._best_weights = state["best_weights"]
        if self._average is not None:
            self._average.load(state["average"])
        if self._gradients is not None:
            self._gradients.load(state["gradients"])

    def logits(self, examples: Examples) -> Tensor:
        """Logits (H, n, C) of `examples`, in order, on the CPU in float32."""
        return self.model.logits(examples, self._precision)

    def _evaluate(self) -> Evaluation:
        logits = self.logits(self._val)
        labels = torch.from_numpy(self._val.labels[self._val.rows])
        accuracies = (logits.argmax(-1) == labels).double().mean(1).tolist()
        losses = _mean_losses(logits, labels).tolist()
        n = len(labels)
        scores = [score(a, loss, n) for a, loss in zip(accuracies, losses, strict=True)]
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

    @torch.no_grad()
    def _weight_distance(self) -> float:
        """Relative L2 distance of the trained encoder weights from where they began."""
        moved, size = 0.0, 0.0
        for name, parameter in self._trained.items():
            began = self._began[name].to(parameter)
            moved += (parameter - began).square().sum().item()
            size += began.square().sum().item()
        return math.sqrt(moved / size) if size else 0.0


def _mean_losses(logits: Tensor, labels: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The mean cross-entropy (H,) of each head's logits (H, n, C)."""
    losses = F.cross_entropy(
        logits.flatten(0, 1),
        labels.repeat(len(logits)),
        label_smoothing=label_smoothing,
        reduction="none",
    )
    return losses.reshape(len(logits), -1).mean(1)


def _copied(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: weight.detach().clone() for name, weight in weights.items()}
