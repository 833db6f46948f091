"""The training loop: what it learns, what it leaves alone, and that it can be interrupted."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor, nn

from models.encoder import Encoder, LayerGroup, layer_groups
from models.examples import Examples, SampleOrder
from models.fit import Evaluation, Fit, score
from models.head import LinearHead
from models.recipe import Recipe
from tests.models.towers import at, examples, native, pixels

CLASSES, SEED = 3, 0


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return layer_groups(native())


def clusters(n: int, seed: int, spread: float = 0.3, dim: int = 12) -> Examples:
    """Separable: one direction a class, and a little noise."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % CLASSES
    found = 3 * np.eye(CLASSES, dim)[labels] + spread * rng.standard_normal((n, dim))
    return examples(found.astype(np.float32), labels.astype(np.int64))


def images(n: int, seed: int) -> tuple[Tensor, NDArray[np.int64]]:
    """Noise over one picture a class."""
    labels = np.arange(n) % CLASSES
    return pixels(CLASSES, 99)[labels] + 0.5 * pixels(n, seed), labels


def probe(encoder: Encoder, horizon: int = 600, seed: int = SEED, **settings: Any) -> Fit:
    recipe = Recipe(**{"batch_size": 10, "head_lr": 0.05, **settings})
    train, val = clusters(30, 1), clusters(60, 2)
    return Fit(encoder, recipe, "head", train, val, classes=CLASSES, horizon=horizon, seed=seed)


def tuning(encoder: Encoder, boundary: str = "block 1", **settings: Any) -> Fit:
    defaults = {"blocks": "2-1", "lr": 3e-3, "head_lr": 0.01, "batch_size": 8, "weight_decay": 0.1}
    recipe = Recipe(**{**defaults, **settings})
    train, val = at(encoder, boundary, *images(24, 1)), at(encoder, boundary, *images(15, 2))
    return Fit(encoder, recipe, boundary, train, val, classes=CLASSES, horizon=400, seed=SEED)


def weights(fit: Fit) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in fit.model.state_dict().items()}


def assert_same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor, other[name]), name


@pytest.mark.parametrize("build", [probe, tuning])
def test_a_fit_learns(encoder: Encoder, build: Callable[[Encoder], Fit]) -> None:
    fit = build(encoder)
    first, last = fit.advance(40), fit.advance(400)
    assert last.train_loss < first.train_loss < math.log(CLASSES)
    assert last.val_accuracy > 0.9
    assert last.samples >= 400
    assert fit.best is not None
    assert fit.best.score >= last.score


def test_a_bank_finds_its_good_head(encoder: Encoder) -> None:
    fit = probe(encoder, head_lr=[1e-7, 0.05], weight_decay=[0, 0.1])
    evaluation = fit.advance(600)
    assert evaluation.val_accuracy == 1
    assert fit.recipe.bank[evaluation.head][0] == 0.05
    logits = fit.logits(clusters(60, 2))
    assert logits.shape == (4, 60, CLASSES)
    head = fit.restore_best()
    labels = torch.from_numpy(clusters(60, 2).labels)
    x = torch.from_numpy(clusters(60, 2).features.copy())
    assert torch.equal((x @ head.weight.T + head.bias).argmax(1), labels)


def test_every_head_of_a_bank_is_its_own_fit(encoder: Encoder) -> None:
    together = probe(encoder, head_lr=[1e-3, 0.05], weight_decay=[0, 0.5], warmup=0.2)
    together.advance(300)
    for i, (rate, decay) in enumerate(together.recipe.bank):
        alone = probe(encoder, head_lr=rate, weight_decay=decay, warmup=0.2)
        alone.advance(300)
        torch.testing.assert_close(
            together.model.head.weight[i], alone.model.head.weight[0], rtol=1e-5, atol=1e-6
        )


def test_the_reported_loss_is_that_of_the_reported_head(encoder: Encoder) -> None:
    bank = probe(encoder, head_lr=[1e-7, 0.05]).advance(200)
    alone = probe(encoder, head_lr=0.05).advance(200)
    assert bank.head == 1
    assert bank.train_loss == pytest.approx(alone.train_loss, rel=1e-4)
    assert bank.val_loss == pytest.approx(alone.val_loss, rel=1e-4)


def test_a_head_that_overflows_does_not_hide_the_others(encoder: Encoder) -> None:
    fit = probe(encoder, head_lr=[0.05, 100], weight_decay=[0, 100])
    evaluation = fit.advance(550)
    assert not all(fit.model.head.head(i).weight.isfinite().all() for i in range(4))
    assert evaluation.finite
    assert fit.best == evaluation
    assert evaluation.val_accuracy == 1


def test_the_rate_warms_up_linearly_and_falls_as_a_cosine(encoder: Encoder) -> None:
    fit = probe(encoder, horizon=400, warmup=0.25)
    factors = []
    for _ in range(45):
        factors.append(fit.rate_factor())
        fit.step()
    warm, rest = factors[:10], factors[10:40]
    assert warm == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert rest == pytest.approx([(1 + math.cos(math.pi * i / 30)) / 2 for i in range(30)])
    assert rest == sorted(rest, reverse=True)
    assert factors[40:] == [0.0] * 5


@given(st.floats(0, 0.99), st.integers(1, 500), st.integers(1, 3000))
def test_the_rate_is_a_share(warmup: float, batch: int, horizon: int) -> None:
    fit = object.__new__(Fit)
    fit.recipe, fit.batch_size, fit._horizon = Recipe(warmup=warmup), batch, horizon
    for samples in range(0, 2 * horizon, batch):
        fit.samples = samples
        factor = fit.rate_factor()
        assert 0 <= factor <= 1
        assert factor == 0 or samples < horizon


def test_past_the_horizon_nothing_moves(encoder: Encoder) -> None:
    fit = tuning(encoder)
    fit.advance(400)
    before = weights(fit)
    fit.advance(480)
    assert_same(before, weights(fit))


@pytest.mark.parametrize("through_a_file", [False, True])
@pytest.mark.parametrize(
    "build",
    [
        lambda encoder: probe(encoder, head_lr=[0.01, 0.05], weight_decay=[0, 0.1], warmup=0.1),
        lambda encoder: tuning(encoder, llrd_decay=0.7, warmup=0.1),
        lambda encoder: tuning(encoder, "block 0", kinds="ln"),
    ],
    ids=["probe", "tuning", "lower boundary"],
)
def test_an_interrupted_fit_goes_on_bit_by_bit(
    encoder: Encoder, build: Callable[[Encoder], Fit], through_a_file: bool
) -> None:
    whole, first, second = build(encoder), build(encoder), build(encoder)
    expected = [whole.advance(until) for until in (56, 150, 400)]
    assert first.advance(56) == expected[0]
    state = first.state()
    if through_a_file:
        file = io.BytesIO()
        torch.save(state, file)
        file.seek(0)
        state = torch.load(file, weights_only=True)
    second.load(state)
    assert second.best == first.best
    assert [second.advance(until) for until in (150, 400)] == expected[1:]
    assert_same(weights(second), weights(whole))
    assert second.best == whole.best
    assert_same(vars(second.restore_best()), vars(whole.restore_best()))
    assert_same(weights(second), weights(whole))


def test_loading_alone_changes_nothing(encoder: Encoder) -> None:
    first, second = tuning(encoder), tuning(encoder)
    evaluation = first.advance(80)
    second.load(first.state())
    assert second.advance(80) == evaluation
    assert_same(weights(first), weights(second))


def test_the_best_weights_travel_with_the_state(encoder: Encoder) -> None:
    first, second = tuning(encoder), tuning(encoder)
    first.advance(160)
    at_best = weights(first)
    with torch.no_grad():
        first.model.head.weight.neg_()
    second.load(first.state())
    assert_same(weights(second), weights(first))
    second.restore_best()
    assert_same(weights(second), at_best)


def test_a_state_that_never_was_evaluated_loads(encoder: Encoder) -> None:
    first, second = tuning(encoder), tuning(encoder)
    second.load(first.state())
    assert second.best is None
    assert first.advance(80) == second.advance(80)


def test_diverged_fits_are_never_the_best(encoder: Encoder) -> None:
    fit = tuning(encoder)
    good = fit.advance(80)
    assert good.finite
    with torch.no_grad():
        next(p for p in fit.model.parameters() if p.requires_grad).fill_(math.nan)
    bad = fit.advance(160)
    assert not bad.finite
    assert bad.score == -math.inf
    assert fit.best == good
    fit.restore_best()
    assert fit.logits(at(encoder, "block 1", *images(15, 2))).isfinite().all()


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_bad_features_give_no_best(encoder: Encoder, poison: float) -> None:
    train = clusters(30, 1)
    broken = train.features.copy()
    broken[::3] = poison
    fit = Fit(
        encoder,
        Recipe(batch_size=10),
        "head",
        Examples(broken, train.labels, train.rows),
        clusters(9, 2),
        classes=CLASSES,
        horizon=90,
        seed=0,
    )
    assert not fit.advance(60).finite
    assert fit.best is None
    with pytest.raises(RuntimeError, match="diverged"):
        fit.restore_best()


def test_a_huge_rate_is_not_an_error(encoder: Encoder) -> None:
    fit = tuning(encoder, lr=100, head_lr=100, weight_decay=100)
    evaluations = [fit.advance(until) for until in (200, 399)]
    assert not evaluations[-1].finite
    assert fit.best in (None, evaluations[0])


def test_the_best_weights_come_back_and_not_the_last(encoder: Encoder) -> None:
    fit = tuning(encoder)
    best = fit.advance(160)
    at_best = weights(fit)
    with torch.no_grad():  # what a bad stretch does: the classes are swapped
        fit.model.head.weight.neg_()
    fit._order = SampleOrder(24, 5)
    last = fit.advance(168)
    assert last.score < best.score
    assert fit.best == best
    head = fit.restore_best()
    assert_same(weights(fit), at_best)
    assert torch.equal(head.weight, at_best["head.weight"][best.head])
    again = fit.advance(0)
    assert (again.val_accuracy, again.val_loss) == (best.val_accuracy, best.val_loss)


@given(st.integers(1, 5000), st.data())
def test_the_score_never_overrules_an_accuracy(n: int, data: st.DataObject) -> None:
    losses = st.floats(0) | st.just(math.nan)
    right, wrong = data.draw(st.integers(1, n)), data.draw(st.integers(1, n))
    fewer = right - wrong
    loss, other = data.draw(st.floats(0, 1e6)), data.draw(losses)
    better, worse = score(right / n, loss, n), score(fewer / n, other, n)
    assert better > worse
    # Half an image, and no more.
    assert right / n <= better <= (right + 0.5) / n + 1e-12


@given(st.integers(1, 1000), st.floats(0, 10), st.floats(0, 10))
def test_the_score_orders_ties_by_loss(n: int, one: float, other: float) -> None:
    if one + 1e-6 < other:
        assert score(0.5, one, n) > score(0.5, other, n)


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_no_loss_no_score(loss: float) -> None:
    assert score(1.0, loss, 10) == -math.inf
    assert not Evaluation(1, 1, loss, 1.0, 0.1, 0.0, 0, 0.0).finite
    assert not Evaluation(1, 1, 0.1, 1.0, loss, 0.0, 0, 0.0).finite


def test_a_batch_is_never_larger_than_the_split(encoder: Encoder) -> None:
    fit = probe(encoder, batch_size=4096)
    assert fit.batch_size == 30
    evaluation = fit.advance(60)
    assert (evaluation.samples, evaluation.steps) == (60, 2)


def test_the_seed_changes_the_order(encoder: Encoder) -> None:
    fits = [probe(encoder, seed=seed) for seed in (0, 0, 1)]
    losses = [[fit.step().item() for _ in range(6)] for fit in fits]
    assert losses[0] == losses[1] != losses[2]


def test_the_head_starts_where_it_is_told(encoder: Encoder) -> None:
    start = LinearHead(torch.randn(CLASSES, 12), torch.randn(CLASSES))
    val = clusters(9, 2)
    fit = Fit(
        encoder,
        Recipe(),
        "head",
        val,
        val,
        classes=CLASSES,
        horizon=90,
        seed=0,
        start=start,
    )
    expected = torch.from_numpy(val.features.copy()) @ start.weight.T + start.bias
    torch.testing.assert_close(fit.logits(val)[0], expected)


@pytest.mark.parametrize("batch_size", [1, 4, 15, 256])
def test_logits_come_in_order_whatever_the_batch(encoder: Encoder, batch_size: int) -> None:
    fit = tuning(encoder)
    fit.advance(40)
    data = at(encoder, "block 1", *images(15, 2))
    reordered = Examples(data.features, data.labels, data.rows[::-1].copy())
    logits = fit.logits(data, batch_size)
    torch.testing.assert_close(logits, fit.logits(data), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fit.logits(reordered, batch_size), logits.flip(1))


def test_a_fit_leaves_encoder_and_features_alone(encoder: Encoder) -> None:
    before = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    fit = tuning(encoder, blocks="all", boundary="pixels", kinds="ln+attn+mlp+embed+proj")
    cached = fit._train.features.copy()
    distances = [fit.advance(until).weight_distance for until in (8, 80)]
    assert_same(dict(encoder.state_dict()), before)
    np.testing.assert_array_equal(fit._train.features, cached)
    assert 0 < distances[0] < distances[1]
    assert probe(encoder).advance(50).weight_distance == 0


class Noisy(nn.Module):
    """A layer with everything that behaves otherwise in training."""

    def __init__(self) -> None:
        super().__init__()
        self.mlp = nn.Linear(12, 12)
        self.norm = nn.BatchNorm1d(12)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.drop(self.norm(self.mlp(x)))
        return out


def run(part: nn.Module, x: Tensor) -> Tensor:
    out: Tensor = part(x)
    return out


def noisy_chain() -> Encoder:
    torch.manual_seed(0)
    kinds = {"mlp.weight": "mlp", "mlp.bias": "mlp", "norm.weight": "ln", "norm.bias": "ln"}
    return Encoder(
        [
            LayerGroup("stem", nn.Flatten(), run, {}),
            *(LayerGroup(f"block {i}", Noisy(), run, kinds) for i in range(3)),
            LayerGroup("final", nn.Identity(), run, {}),
        ],
        (2, 2),
    )


@pytest.mark.parametrize("kinds", ["mlp", "ln+mlp"])
def test_what_is_frozen_stays_in_eval_mode(kinds: str) -> None:
    chain = noisy_chain()
    data = examples(pixels(32)[:, :, :2, :2], np.arange(32) % CLASSES)
    recipe = Recipe(blocks="2", kinds=kinds, batch_size=8)
    fit = Fit(chain, recipe, "pixels", data, data, classes=CLASSES, horizon=64, seed=0)
    buffers = {name: tensor.clone() for name, tensor in fit.model.named_buffers()}
    assert len(buffers) == 9
    frozen = {name: p.clone() for name, p in fit.model.named_parameters() if not p.requires_grad}
    for until in (16, 64):  # an evaluation comes between
        fit.advance(until)
        below, above = fit.model.groups[:3], fit.model.groups[3:]
        assert not any(module.training for module in below.modules() if module is not below)
        assert above[0].part.drop.training
        assert not above[0].part.norm.training
    # Running statistics are no part of a checkpoint, nor of the best weights: they never move.
    assert_same(dict(fit.model.named_buffers()), buffers)
    parameters = dict(fit.model.named_parameters())
    assert_same({name: parameters[name] for name in frozen}, frozen)


def test_patch_dropout_below_the_boundary_is_off() -> None:
    chain = layer_groups(native(patch_dropout=0.5))
    plain = layer_groups(native())
    torch.testing.assert_close(chain(pixels(4)), plain(pixels(4)))
    fits = [tuning(tower, "pixels") for tower in (chain, plain)]
    first, second = ([fit.step().item() for _ in range(5)] for fit in fits)
    assert first == pytest.approx(second)
