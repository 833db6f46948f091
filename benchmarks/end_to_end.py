"""Compare a whole run of ours with Ray Tune as its tutorial shows it, on the same trials.

Ours runs `run_search.py` as a user does. The peer (benchmarks/peers/naive.py, --ray) repeats a few
of the trials that went to the end, with the same configuration, images, order and number of
samples. The time of the others is extrapolated from them: the cost of a trial's start, and of each
sample and evaluation. Heads start at zero, so that both train the same; the validation accuracies
are asserted to be equal to within two images.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import pandas as pd

from benchmarks.geometry import run_peer
from benchmarks.jobs import Answer, Job, Trial
from benchmarks.limits import run_python
from benchmarks.table import Row
from data import Dataset, Split, derived_seed, load_dataset, partition_rows
from models.config import LOCAL_DIR
from records import JOURNAL, TRIALS, Cell, TrialReported, read_final_fits, read_journal
from search_spaces import Experiment, load_experiment
from tune.search.schedulers import milestones

IMAGES_APART = 2.5  # validation images on which rounding may change the prediction
SAMPLED = 4  # trials that the peer runs


@dataclass(frozen=True)
class Finished:
    """A run of ours.

    Attributes:
        seconds, memory: wall time and peak bytes of the whole command.
        slots: trials that run at a time.
        trials: the run's trials.csv, with each trial's `horizon` and the `last_accuracy` that it
            reported.
        final_seconds: seconds of each final fit, of probes too, by method.
        test_images: how many images each final fit is scored on.
    """

    experiment: Experiment
    seconds: float
    memory: int
    slots: int
    trials: pd.DataFrame
    final_seconds: pd.Series[float]
    test_images: int

    @property
    def tuned(self) -> list[str]:
        """The methods that train layers of the encoder."""
        return [name for name, m in self.experiment.methods.items() if not m.frozen_encoder]

    @property
    def arithmetic(self) -> float:
        """Device-seconds in which a fit trained, evaluated or was solved."""
        return float(self.trials.seconds.sum() + self.final_seconds.sum())

    @property
    def overhead(self) -> float:
        """All other device-seconds."""
        return self.seconds * self.slots - self.arithmetic


def run_ours(space: Path, settings: Sequence[str], folder: Path) -> Finished:
    """Run our search from an empty cache, with heads that start at zero."""
    plain = load_experiment(space, settings)
    zeros = [
        f"methods.{name}.space.head_start=zeros"
        for name, method in plain.methods.items()
        if method.needs_probe
    ]
    settings = [*settings, *zeros]
    options = [f"--set={each}" for each in (*settings, f"features.cache={folder / 'cache'}")]
    command = ["run_search.py", str(space), "--out", str(folder), "--name", "run", *options]
    _, seconds, memory = run_python(command)
    run = folder / "run"
    fits = [fit for by_seed in read_final_fits(run).values() for fit in by_seed.values()]
    experiment = load_experiment(space, settings)
    slots = int((os.cpu_count() or 1) / experiment.resources.cpus_per_trial)
    trials = pd.read_csv(run / TRIALS.file)
    reports = [event for event in read_journal(run / JOURNAL) if isinstance(event, TrialReported)]
    last = {(event.cell, event.trial): event.report.val_accuracy for event in reports}
    trials["last_accuracy"] = [
        last.get((Cell(float(partition), str(method)), int(trial)))
        for partition, method, trial in trials[["partition", "method", "trial"]].to_numpy()
    ]
    images = {fit.partition: fit.n_train for fit in fits}
    trials["horizon"] = [
        experiment.horizon(str(method), images[float(partition)])
        for partition, method in trials[["partition", "method"]].to_numpy()
    ]
    finals = pd.Series([fit.seconds for fit in fits], index=[fit.method for fit in fits])
    scored = sum(len(test.predictions) for test in fits[0].tests.values())
    return Finished(experiment, seconds, memory, slots, trials, finals, scored)


def sampled(ours: Finished) -> pd.DataFrame:
    """Return a few trials that train layers and went to the horizon, of all such methods."""
    done = ours.trials[ours.trials.method.isin(ours.tuned) & (ours.trials.status == "completed")]
    place = done.groupby("method").cumcount()
    return done.assign(place=place).sort_values(["place", "partition"]).head(SAMPLED)


def as_job(ours: Finished, trials: pd.DataFrame, folder: Path) -> Job:
    """Return the same trials as a job for the peer, on files."""
    experiment = ours.experiment
    dataset = load_dataset(experiment.data)
    labels, groups = dataset.train.labels, dataset.train.group_ids
    same = []
    for trial in trials.to_dict("records"):
        rows = partition_rows(labels, groups, trial["partition"], experiment.seed)
        horizon = experiment.horizon(trial["method"], len(rows))
        same.append(
            Trial(
                json.loads(trial["config"]),
                horizon,
                list(milestones(horizon, experiment.search, len(rows))),
                derived_seed(experiment.seed, 0, "order"),
                rows.tolist(),
            )
        )
    model = experiment.model
    name = model.name
    if name.startswith(LOCAL_DIR):  # Tune's workers have another working directory
        name = LOCAL_DIR + str(Path(name.removeprefix(LOCAL_DIR)).resolve())
    train, val = (_files(dataset, split, folder) for split in (dataset.train, dataset.val))
    return Job(name, model.pretrained, train, val, len(dataset.classes), same)


def _files(dataset: Dataset, split: Split, folder: Path) -> list[tuple[str, int]]:
    """Write a split's images to files without loss; return (file, label) of each."""
    folder.mkdir(exist_ok=True)
    found = []
    for key, label in zip(split.keys, split.labels.tolist(), strict=True):
        path = folder / f"{dataset.source.digest(key)}.png"
        dataset.source.image(key).save(path)
        found.append((str(path), label))
    return found


def end_to_end_rows(what: str, space: Path, settings: Sequence[str], folder: Path) -> Iterator[Row]:
    """Compare ours with the peer, in time and in overhead."""
    ours = run_ours(space, settings, folder)
    chosen = sampled(ours)
    job = as_job(ours, chosen, folder / "images")
    answer, memory = run_peer("naive", job, "--ray")
    apart = max(
        abs(outcome.val_accuracy[-1] - mine)
        for outcome, mine in zip(answer.trials, chosen.last_accuracy, strict=True)
    ) * len(job.val)
    if apart > IMAGES_APART:
        raise AssertionError(f"{what}: validation differs by {apart:.0f} images")
    device = extrapolated(ours, chosen, answer, len(job.val))
    trials = ours.trials.seconds[ours.trials.method.isin(ours.tuned)]
    finals = ours.final_seconds[ours.final_seconds.index.isin(ours.tuned)]
    their_overhead, slots = device - trials.sum() - finals.sum(), ours.slots
    count = f"{len(trials)} trials and {len(finals)} final fits"
    yield Row(
        f"{what}: {count}",
        "naive, Ray Tune",
        seconds=device / slots,
        ratio=device / slots / ours.seconds,
        overhead=their_overhead / slots,
        same=f"validation to {apart:.0f} of {len(job.val)} images in {len(chosen)} trials",
        memory=memory,
        extrapolated=True,
    )
    yield Row(
        f"{what}: the same, and probes",
        "ours",
        seconds=ours.seconds,
        overhead=ours.overhead / slots,
        memory=ours.memory,
    )
    yield Row(
        f"{what}: what is not a suffix's arithmetic",
        "naive over ours",
        seconds=their_overhead / slots,
        ratio=their_overhead / ours.overhead,
    )


def extrapolated(ours: Finished, chosen: pd.DataFrame, answer: Answer, val_images: int) -> float:
    """Extrapolate the peer's device-seconds for all trials and final fits that train layers.

    A final fit is scored on the test images too, in the time that as many of validation take.
    Probes are left out, because the peer would need a trial for each penalty.
    """
    work = [sum(outcome.seconds) + outcome.evaluation for outcome in answer.trials]
    judging = mean(outcome.evaluation / len(outcome.val_accuracy) for outcome in answer.trials)
    scoring = judging / val_images * ours.test_images
    start = (answer.once * ours.slots - sum(work)) / len(work)  # a process, its imports, a model
    of_method = pd.Series(work, index=chosen.method).groupby(level=0).mean()
    total = 0.0
    for method in ours.tuned:
        whole = float(of_method.get(method, mean(work)))
        trials = ours.trials[ours.trials.method == method]
        share = (trials.samples / trials.horizon).clip(upper=1)
        finals = int((ours.final_seconds.index == method).sum())
        total += whole * (float(share.sum()) + finals) + start * (len(share) + finals)
        total += scoring * finals
    return total
