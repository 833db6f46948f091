"""The one training loop: a suffix of the encoder and its head, from cached features.

A linear probe is the case of an empty suffix; unfreezing everything is the case of a whole one.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from models.encoder import Encoder
from models.examples import Examples, SampleOrder
from models.head import BankAdamW, HeadBank, LinearHead
from models.precision import Precision
from models.recipe import Recipe, decays

MAX_GRADIENT_NORM = 1.0  # of the suffix; as in open_clip's and BEiT's fine-tuning recipes


@dataclass(frozen=True)
class Evaluation:
    """What a fit reports: its best head on the validation split, after `samples` samples."""

    samples: int
    steps: int
    train_loss: float
    val_accuracy: float
    val_loss: float
    score: float
    head: int  # which head of the bank
    weight_distance: float

    @property
    def finite(self) -> bool:
        return math.isfinite(self.train_loss) and math.isfinite(self.val_loss)


def score(accuracy: float, loss: float, n: int) -> float:
    """Accuracy first, likelihood second: what fits are ranked by.

    With few validation images many fits tie in accuracy. The second term grows as the loss falls
    but stays under half an image, so it orders ties and never overrules an accuracy.
    """
    return accuracy + math.exp(-loss) / (2 * n) if math.isfinite(loss) else -math.inf


class Classifier(nn.Module):
    """Layer groups from a boundary up, and a bank of heads.

    Args:
        groups: the groups above the cached boundary, owned by this classifier.
        head: the heads.
        trained_from: index in `groups` of the first one that holds a trained parameter; those
            below it are run without gradient.
    """

    def __init__(self, groups: nn.ModuleList, head: HeadBank, trained_from: int) -> None:
        super().__init__()
        self.groups = groups
        self.head = head
        self.trained_from = trained_from
        self.train_suffix()

    def train_suffix(self) -> None:
        """Training mode from the first trained group up; what lies below stays in eval mode."""
        for group in self.groups[self.trained_from :]:
            group.train()
            for module in group.modules():
                # Its running statistics are the encoder's, and no part of what is trained.
                if isinstance(module, _BatchNorm):
                    module.eval()

    def embed(self, x: Tensor) -> Tensor:
        """Features at the boundary to embeddings (n, d)."""
        with torch.no_grad():
            for group in self.groups[: self.trained_from]:
                x = group(x)
        for group in self.groups[self.trained_from :]:
            x = group(x)
        return x


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
        precision: Precision | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.recipe = recipe
        self.samples = self.steps = 0
        self._train, self._val = train, val
        self._horizon = horizon
        self._precision = precision or Precision("cpu")
        self._dtype = dtype
        self._order = SampleOrder(len(train), seed)
        # No batch is larger than an epoch.
        self.batch_size = min(recipe.batch_size, len(train))
        self._losses: list[Tensor] = []
        self._train_loss = [math.nan] * len(recipe.bank)
        self.best: Evaluation | None = None
        self._best_weights: dict[str, Tensor] = {}

        device = self._precision.device
        first = encoder.index(boundary)
        trained = {
            (i - first, name): f for (i, name), f in recipe.trained_parameters(encoder).items()
        }
        groups = encoder.suffix(boundary).to(device, dtype)
        bank = HeadBank(len(recipe.bank), encoder.dim, classes).to(device, dtype)
        if start is not None:
            bank.start_from(start)
        lowest = min((i for i, _ in trained), default=len(groups))
        if lowest < 0:
            raise ValueError(f"the recipe trains below {boundary}, where its features are cached")
        self.model = Classifier(groups, bank, lowest)
        self._trained: dict[str, nn.Parameter] = {
            f"groups.{i}.{name}": parameter
            for i, group in enumerate(groups)
            for name, parameter in group.named_parameters()
            if (i, name) in trained
        }
        for parameter in self._trained.values():
            parameter.requires_grad_()
        self._began = {name: p.detach().clone() for name, p in self._trained.items()}
        self._optimizers: list[torch.optim.Optimizer] = [BankAdamW(bank, recipe.bank)]
        if trained:
            self._optimizers.append(self._suffix_optimizer(trained))
        # Without trained layers nothing runs in half precision.
        self._scaler = self._precision.scaler() if trained else Precision("cpu").scaler()

    def _suffix_optimizer(self, trained: dict[tuple[int, str], float]) -> torch.optim.AdamW:
        """AdamW over the trained parameters, grouped by peak rate and decay."""
        grouped: dict[tuple[float, float], list[nn.Parameter]] = {}
        for (i, name), factor in trained.items():
            parameter = self._trained[f"groups.{i}.{name}"]
            decay = self.recipe.weight_decay[0] if decays(name, parameter) else 0.0
            grouped.setdefault((factor * self.recipe.lr, decay), []).append(parameter)
        groups = [
            {"params": parameters, "peak": peak, "weight_decay": decay}
            for (peak, decay), parameters in grouped.items()
        ]
        return torch.optim.AdamW(groups, fused=True)

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
        x, labels = self._train.batch(positions, self._precision.device, self._dtype)
        with self._precision.autocast():
            embeddings = self.model.embed(x)
        logits = self.model.head(embeddings.to(self._dtype))
        loss = F.cross_entropy(
            logits.flatten(0, 1),
            labels.repeat(len(logits)),
            label_smoothing=self.recipe.label_smoothing,
            reduction="none",
        )
        losses = loss.reshape(len(logits), -1).mean(1)
        torch.autograd.backward(self._scaler.scale(losses.sum()))
        self._update()
        self.samples += self.batch_size
        self.steps += 1
        return losses.detach()

    def _update(self) -> None:
        factor = self.rate_factor()
        for optimizer in self._optimizers:
            self._scaler.unscale_(optimizer)
            for group in optimizer.param_groups:
                if "peak" in group:
                    group["lr"] = factor * group["peak"]
                else:
                    group["factor"] = factor
        if self._trained:
            nn.utils.clip_grad_norm_(self._trained.values(), MAX_GRADIENT_NORM)
        for optimizer in self._optimizers:
            self._scaler.step(optimizer)
            optimizer.zero_grad(set_to_none=True)
        self._scaler.update()

    def advance(self, until: int) -> Evaluation:
        """Train until `until` samples have been seen, then evaluate."""
        while self.samples < until:
            self._losses.append(self.step())
        if self._losses:
            self._train_loss = torch.stack(self._losses).mean(0).tolist()
            self._losses.clear()
        evaluation = self._evaluate()
        if evaluation.finite and (self.best is None or evaluation.score > self.best.score):
            self.best = evaluation
            self._best_weights = {name: p.detach().clone() for name, p in self._weights().items()}
        return evaluation

    def _weights(self) -> dict[str, nn.Parameter]:
        """Everything that is trained, by name."""
        head = {f"head.{name}": p for name, p in self.model.head.named_parameters()}
        return {**self._trained, **head}

    @torch.no_grad()
    def restore_best(self) -> LinearHead:
        """Go back to the best evaluation's weights; returns its head.

        Raises:
            RuntimeError: no evaluation was finite.
        """
        if self.best is None:
            raise RuntimeError("the fit diverged: no evaluation was finite")
        for name, parameter in self._weights().items():
            parameter.copy_(self._best_weights[name])
        return self.model.head.head(self.best.head)

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
        }

    @torch.no_grad()
    def load(self, state: dict[str, Any]) -> None:
        """Take up a fit of the same recipe and data where `state` left it."""
        self.samples, self.steps = state["samples"], state["steps"]
        self._train_loss = state["train_loss"]
        for name, parameter in self._weights().items():
            parameter.copy_(state["weights"][name])
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self._scaler.load_state_dict(state["scaler"])
        self.best = None if state["best"] is None else Evaluation(**state["best"])
        self._best_weights = state["best_weights"]

    @torch.no_grad()
    def logits(self, examples: Examples, batch_size: int = 256) -> Tensor:
        """Logits (H, n, C) of `examples`, in order, on the CPU in float32."""
        self.model.eval()
        parts = []
        for begin in range(0, len(examples), batch_size):
            positions = np.arange(begin, min(begin + batch_size, len(examples)))
            x, _ = examples.batch(positions, self._precision.device, self._dtype)
            with self._precision.autocast():
                embeddings = self.model.embed(x)
            parts.append(self.model.head(embeddings.to(self._dtype)).float().cpu())
        self.model.train_suffix()
        return torch.cat(parts, dim=1)

    def _evaluate(self) -> Evaluation:
        logits = self.logits(self._val)
        labels = torch.from_numpy(self._val.labels[self._val.rows])
        accuracies = (logits.argmax(-1) == labels).double().mean(1).tolist()
        flat = F.cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
        losses = flat.reshape(len(logits), -1).mean(1).tolist()
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
            moved += (parameter - self._began[name]).square().sum().item()
            size += self._began[name].square().sum().item()
        return math.sqrt(moved / size) if size else 0.0
