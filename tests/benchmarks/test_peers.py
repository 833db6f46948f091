"""The peers train the same: every step's loss is that of ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks.geometry import CONFIGS, check_losses
from benchmarks.jobs import Answer, Job, Outcome, Trial
from benchmarks.peers import naive, ours, seed

GLYPH_CLIP = f"local-dir:{Path(__file__).resolve().parents[2] / 'models' / 'glyph_clip'}"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder, digits = tmp_path_factory.mktemp("digits"), load_digits()
    files = []
    for i in range(12):
        path = folder / f"{i}.png"
        Image.fromarray(np.uint8(digits.images[i] * 15)).resize((32, 32)).save(path)
        files.append((str(path), int(digits.target[i])))
    return Job(GLYPH_CLIP, None, files[:8], files[8:], 10, [])


def trial(name: str) -> Trial:
    return Trial(CONFIGS[name] | {"batch_size": 4}, 16, [8, 16])


def run(job: Job, trial: Trial) -> Outcome:
    return ours.Bench(Job(**{**vars(job), "trials": [trial]})).run(trial)


@pytest.mark.parametrize("name", CONFIGS)
def test_naive_trains_as_ours_does(job: Job, name: str) -> None:
    theirs, mine = naive.train(job, trial(name)), run(job, trial(name))
    assert len(theirs.losses) == len(mine.losses) == 4
    assert theirs.val_accuracy == mine.val_accuracy
    check_losses(name, "naive", Answer([theirs]), Answer([mine]))


def test_a_job_without_validation_trains_the_same(job: Job) -> None:
    alone = Job(**{**vars(job), "val": []})
    mine = run(alone, trial("frozen"))
    assert mine.losses == run(job, trial("frozen")).losses
    assert mine.val_accuracy == []


def test_seed_trains_a_probe_as_ours_does(job: Job, tmp_path: Path) -> None:
    seed.precompute(job, tmp_path / "embeddings.pt")
    theirs = seed.probe(job, trial("frozen"), tmp_path / "embeddings.pt")
    assert len(theirs.losses) == 4
    check_losses("frozen", "seed", Answer([theirs]), Answer([run(job, trial("frozen"))]))


def test_other_losses_are_refused(job: Job) -> None:
    mine = run(job, trial("frozen"))
    other = Outcome([[loss * 1.001] for (loss,) in mine.losses])
    with pytest.raises(AssertionError, match=r"the losses of naive differ from ours by 1\.0e-03"):
        check_losses("frozen", "naive", Answer([other]), Answer([mine]))


def test_a_job_and_an_answer_are_read_as_they_were_written(
    job: Job, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    job.write(tmp_path / "job.json")
    assert Job.read(tmp_path / "job.json").trials == job.trials
    answer = Answer([Outcome([[0.5]], [0.25], [1.0], 2.0)], 3.0)
    answer.print()
    assert Answer.parse("a warning\n" + capsys.readouterr().out) == answer
