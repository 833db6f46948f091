"""A trial's own checkpoint: taken up by whoever runs the trial next, and by no other trial."""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch

from data import Draws, Listed
from models.config import ModelConfig
from models.fit import Fit
from models.loading import Pretrained, load_pretrained
from records import Cell, FinalFitResult, TrialReport
from tests.runs.helpers import small
from tune.storage.storage import Storage
from tune.trials import trainable
from tune.trials.checkpoints import BEFORE, CHECKSUM, Checkpoint
from tune.trials.final_fits import FinalFitJob, FinalFitWorker
from tune.trials.trainable import REPORT, SuffixTrial
from tune.trials.trial_context import TrialContext
from tune.workers.object_store import SharedArray, SharedSplit

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]
TRIAL = {
    "cell": "100/llrd",
    "number": 0,
    "config": {"blocks": "11", "head_start": "zeros", "lr": 1e-3, "batch_size": 16},
    "probe": None,
}


@pytest.fixture(scope="module")
def pretrained() -> Pretrained:
    return load_pretrained(ModelConfig())


def new_context(pretrained: Pretrained, fingerprint: str = "these data") -> TrialContext:
    rng = torch.Generator().manual_seed(0)
    pixels = torch.randn(60, 3, 24, 24, generator=rng)
    features = pretrained.encoder.features(pixels, ["block 11"])["block 11"].numpy()
    split = SharedSplit(np.arange(60) % 10, {"block 11": SharedArray(ray.put(features))})
    shared, classes = ray.put(pretrained), tuple("0123456789")
    draws = Draws(Listed(split.labels), Listed(split.labels), 0, matched=False)
    return TrialContext(
        small(), shared, fingerprint, "float32", classes, split, split, {100: 60}, draws
    )


def begin(context: TrialContext, checkpoints: Path, **changes: Any) -> SuffixTrial:
    trial = SuffixTrial.__new__(SuffixTrial)  # Tune's own set-up is of no use here
    trial.setup({**TRIAL, **changes}, (ray.put(context),), Storage.at(checkpoints))
    return trial


def step(trial: SuffixTrial) -> TrialReport:
    report: TrialReport = trial.step()[REPORT]
    return report


def results(report: TrialReport) -> TrialReport:
    """The report, without what differs from process to process."""
    return dataclasses.replace(report, seconds=0.0, node="", taken_up=0)


@pytest.fixture
def keeps_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Much time passes between two milestones."""
    monkeypatch.setattr(trainable, "UNSAVED", -1.0)


@pytest.mark.usefixtures("keeps_all")
def test_a_trial_goes_on_where_its_process_died(tmp_path: Path, pretrained: Pretrained) -> None:
    context = new_context(pretrained)
    whole = begin(context, tmp_path / "whole")
    expected = [results(step(whole)) for _ in range(3)]
    killed = begin(context, tmp_path / "killed")
    assert [results(step(killed)) for _ in range(2)] == expected[:2]
    again = begin(context, tmp_path / "killed")
    # The last report comes once more, as nobody knows whether it was read.
    reports = [step(again) for _ in range(2)]
    assert [results(report) for report in reports] == expected[1:]
    assert [report.taken_up for report in reports] == [expected[1].milestone] * 2


def test_where_a_trial_cannot_pause_no_file_is_written_and_little_is_lost(
    tmp_path: Path, pretrained: Pretrained
) -> None:
    context = new_context(pretrained)
    whole = begin(context, tmp_path / "whole")
    expected = [results(step(whole)) for _ in range(3)]
    killed = begin(context, tmp_path / "killed")
    killed.step()
    (path,) = (tmp_path / "killed").iterdir()
    at_the_rung = path.read_bytes()
    assert results(step(killed)) == expected[1]
    assert path.read_bytes() == at_the_rung
    again = begin(context, tmp_path / "killed")
    reports = [step(again) for _ in range(3)]
    assert [results(report) for report in reports] == expected
    assert {report.taken_up for report in reports} == {expected[0].milestone}
    assert _before(tmp_path / "killed") == expected[1].milestone  # the horizon's own


def test_a_trial_that_has_ended_leaves_no_fit_to_the_next(
    tmp_path: Path, pretrained: Pretrained
) -> None:
    def fits() -> int:
        gc.collect()
        return sum(isinstance(found, Fit) for found in gc.get_objects())

    before, trial = fits(), begin(new_context(pretrained), tmp_path)
    trial.step()
    assert fits() == before + 1
    trial.reset_config({**TRIAL, "number": 1})
    assert fits() == before


def test_the_first_trial_of_a_process_leaves_no_fit_either(
    tmp_path: Path, pretrained: Pretrained
) -> None:
    """Whose step is the first to import what its work needs."""

    class Process:  # local, so that its process imports nothing for it
        def left_over(self, handle: tuple[Any], checkpoints: Storage) -> int:
            import gc
            import sys

            from tune.trials.trainable import SuffixTrial

            assert not {"torch", "optuna"} & sys.modules.keys()
            trial = SuffixTrial.__new__(SuffixTrial)
            trial.setup(TRIAL, handle, checkpoints)
            trial.step()
            trial.reset_config(TRIAL)
            gc.collect()
            from models.fit import Fit

            return sum(isinstance(found, Fit) for found in gc.get_objects())

    process: Any = ray.remote(num_cpus=1)(Process).remote()
    handle = (ray.put(new_context(pretrained)),)
    assert ray.get(process.left_over.remote(handle, Storage.at(tmp_path))) == 0
    ray.kill(process)


@pytest.mark.parametrize(
    ("fingerprint", "changes"),
    [
        ("other data", {}),
        ("these data", {"config": {**TRIAL["config"], "lr": 1e-4}}),  # type: ignore[dict-item]
    ],
)
def test_the_checkpoint_of_another_trial_is_not_taken(
    fingerprint: str, changes: dict[str, Any], tmp_path: Path, pretrained: Pretrained
) -> None:
    begin(new_context(pretrained), tmp_path).step()
    assert len(list(tmp_path.iterdir())) == 1
    other = begin(new_context(pretrained, fingerprint), tmp_path, **changes)
    fresh = begin(new_context(pretrained, fingerprint), tmp_path / "empty", **changes)
    assert [results(step(other)) for _ in range(2)] == [results(step(fresh)) for _ in range(2)]


def test_the_checkpoint_of_another_start_is_not_taken(
    tmp_path: Path, pretrained: Pretrained
) -> None:
    config = {**TRIAL["config"], "head_start": "probe"}  # type: ignore[dict-item]
    probe = {"blocks": "none", "solver": "lbfgs", "weight_decay": 0.1}
    begin(new_context(pretrained), tmp_path, config=config).step()
    other = begin(new_context(pretrained), tmp_path, config=config, probe=probe)
    fresh = begin(new_context(pretrained), tmp_path / "empty", config=config, probe=probe)
    assert results(step(other)) == results(step(fresh))


def test_the_final_fit_of_the_searchs_seed_goes_on_from_the_winners_trial(
    tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = new_context(pretrained)
    winner = FinalFitJob(Cell(100, "llrd"), 0, 0, TRIAL["config"], None, "")  # type: ignore[arg-type]
    trial = begin(context, tmp_path)
    reports = [step(trial) for _ in range(3)]

    def scored(
        fit: FinalFitJob, checkpoints: Path
    ) -> tuple[FinalFitResult, dict[str, torch.Tensor]]:
        tests = {"test": context.val}
        worker = FinalFitWorker(context, tests, Storage.at(checkpoints))
        result, _, weights = worker.fit_and_score(fit)
        assert weights is not None
        return dataclasses.replace(result, seconds=0.0), weights

    anew, weights = scored(winner, tmp_path / "empty")
    assert anew.val_accuracy >= max(report.val_accuracy for report in reports)
    # A trial that was stopped is trained on from there.
    begin(context, tmp_path / "stopped").step()
    stopped, _ = scored(winner, tmp_path / "stopped")
    assert stopped == anew

    def no_steps(fit: Fit) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(Fit, "step", no_steps)
    taken, same = scored(winner, tmp_path)
    assert taken == anew
    assert all(torch.equal(weights[name], same[name]) for name in weights)
    other_seed = dataclasses.replace(winner, seed=1)
    with pytest.raises(AssertionError, match="trained again"):
        scored(other_seed, tmp_path)


def test_a_reused_actor_takes_nothing_over(tmp_path: Path, pretrained: Pretrained) -> None:
    context = new_context(pretrained)
    reused = begin(context, tmp_path)
    reused.step()
    assert reused.reset_config({**TRIAL, "number": 1})
    fresh = begin(context, tmp_path / "fresh", number=1)
    assert results(step(reused)) == results(step(fresh))


@pytest.mark.parametrize("share", [None, 0.0, 0.5, 0.9999])
def test_a_damaged_checkpoint_is_as_none(
    share: float | None, tmp_path: Path, pretrained: Pretrained
) -> None:
    """A bit is flipped in the weights, or the file is cut short."""
    context = new_context(pretrained)
    expected = results(step(begin(context, tmp_path)))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content if share is None else content[: int(share * len(content))])
    report = step(begin(context, tmp_path))
    assert results(report) == expected
    assert report.taken_up == 0  # made anew
    assert results(step(begin(context, tmp_path))) == expected  # and the file is whole again


def test_no_flipped_bit_of_a_checkpoint_goes_unnoticed(
    tmp_path: Path, pretrained: Pretrained
) -> None:
    context = new_context(pretrained)
    begin(context, tmp_path).step()
    (path,) = tmp_path.iterdir()
    cell, config = Cell(100, "llrd"), TRIAL["config"]
    fit = context.fit(cell, config, None, seed=0)  # type: ignore[arg-type]
    checkpoint = Checkpoint(Storage.at(tmp_path), context, cell, 0, config, None, fit)  # type: ignore[arg-type]
    content = path.read_bytes()
    assert checkpoint.take_up(fit) is not None
    for position in range(0, len(content), len(content) // 300):
        damaged = bytearray(content)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert checkpoint.take_up(fit) is None, position


def test_a_trial_goes_on_where_the_disk_has_no_room_for_its_checkpoint(
    tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = new_context(pretrained)
    expected = [results(step(begin(context, tmp_path / "whole")))]
    trial = begin(context, tmp_path / "full")
    for error in (OSError(28, "No space left on device"), RuntimeError("file write failed")):
        with monkeypatch.context() as patch:
            patch.setattr("torch.save", _raising(error))
            expected.append(results(step(trial)))
        assert list((tmp_path / "full").iterdir()) == []
    assert expected[0] == expected[1]
    trial.step()
    assert len(list((tmp_path / "full").iterdir())) == 1  # there is room again


@pytest.mark.parametrize("at", ["open", "read", "load"])
def test_a_trial_begins_again_where_its_storage_cannot_be_read(
    at: str, tmp_path: Path, pretrained: Pretrained, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = new_context(pretrained)
    expected = results(step(begin(context, tmp_path)))

    class Failing(io.BytesIO):
        """Reads as often as the checksum needs, and fails then."""

        left = {"open": 0, "read": 0, "load": 3}[at]

        def read(self, size: int | None = -1) -> bytes:
            if not self.left:
                raise OSError("connection reset")
            self.left -= 1
            return super().read(size)

        def readinto(self, buffer: Any) -> int:
            raise OSError("connection reset")

    @contextlib.contextmanager
    def failing(storage: Storage, name: str) -> Iterator[Any]:
        if at == "open":
            raise OSError("connection reset")
        yield Failing((tmp_path / name).read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "reading", failing)
        report = step(begin(context, tmp_path))
    assert results(report) == expected
    assert report.taken_up == 0  # made anew
    assert results(step(begin(context, tmp_path))) == expected


@pytest.mark.usefixtures("keeps_all")
def test_a_checkpoint_tells_what_was_reported_before_it(
    tmp_path: Path, pretrained: Pretrained
) -> None:
    context = new_context(pretrained)
    trial = begin(context, tmp_path)
    found, milestones = [], []
    for _ in range(2):
        milestones.append(step(trial).milestone)
        found.append(_before(tmp_path))
    again = begin(context, tmp_path)
    for _ in range(2):  # the last report once more, then the next
        again.step()
    assert [*found, _before(tmp_path)] == [0, *milestones]


def _before(folder: Path) -> int:
    (path,) = folder.iterdir()
    return int.from_bytes(path.read_bytes()[-BEFORE - CHECKSUM : -CHECKSUM], "little")


def _raising(error: Exception) -> Any:
    def save(*_: object) -> None:
        raise error

    return save
