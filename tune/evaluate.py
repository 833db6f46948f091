"""The table's figures once more, from the exported winners: `run_search.py evaluate DIR`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import ray
import torch
from rich.console import Console

from errors import InputError
from metrics import Metric
from models.classifier import Classifier
from models.device import Device
from models.exported import Description, load_exported, rebuilt
from models.loading import Pretrained
from models.recipe import Recipe
from records import (
    JOURNAL,
    TEST,
    TEST_IMAGES,
    FinalFitResult,
    RunHistory,
    SetScore,
    read_final_fits,
    read_journal,
    weights_path,
)
from search_spaces import Experiment, ResourcesConfig
from search_spaces.recorded import read_recorded
from terminal import say
from tune.machines import Machines, joined
from tune.run_dir import KEPT, images_read, otherwise
from tune.setup import Prepared, identity_of, prepare
from tune.trials.final_fits import keeps, score_tests
from tune.workers.actor_pool import result_of
from tune.workers.object_store import SharedSplit, fetch
from tune.workers.own_device import own_device

ON_GPUS = (
    "; another GPU, or another share of one, rounds otherwise, which may change predictions whose "
    "two first classes are about as likely"
)
Exported = tuple[Description, dict[str, torch.Tensor]]
Fits = Mapping[Path, FinalFitResult]
UNSCORED = "its final fits are missing; --resume makes them"


def evaluate(run_dir: Path, address: str | None, console: Console) -> bool:
    """Score every winner that was kept on the test splits, and compare with what the run wrote.

    Returns:
        Whether no final fit is missing, and every accuracy and every prediction is the same.

    Raises:
        InputError: it is no run's directory, it has no final fits, its weights were not kept, or
            data or encoder are no longer what they were.
    """
    experiment, before = read_recorded(run_dir)
    if experiment.models:
        return _evaluate_each(run_dir, experiment.models, address, console)
    cells = experiment.cells
    results = read_final_fits(run_dir)
    made = [fit for cell in cells for fit in results.get(cell, {}).values()]
    fits = _by_weights(run_dir, made, experiment)
    prepared = prepare(experiment, searches=False)
    now = identity_of(prepared)
    known = {key: value for key, value in before.items() if key not in KEPT}
    if changed := [key for key in known | now if before.get(key) != now.get(key)]:
        raise InputError(otherwise(f"identity.{changed[0]}", run_dir))
    figures = same = 0
    on_gpus = False
    missing = [
        f"{cell} seed {seed}"
        for cell in cells
        for seed in range(prepared.plan.seeds[cell.partition])
        if seed not in results.get(cell, {})
    ]
    for name in missing:
        say(console, f"{name}: its final fit is missing; --resume makes it")
    for fit, scores, on_gpu in _scored(prepared, run_dir, fits, address, partial(say, console)):
        on_gpus |= on_gpu
        for name, was in fit.tests.items():
            if (found := scores.get(name)) is None:
                continue
            pairs = zip(found.predictions, was.predictions, strict=True)
            differ = sum(a != b for a, b in pairs)
            figures += 1
            same += (found.accuracy, found.predictions) == (was.accuracy, was.predictions)
            on = "" if name == TEST else f" on {name}"
            say(
                console,
                f"{fit.cell} seed {fit.seed}{on}: {found.accuracy:.6f}, was {was.accuracy:.6f}"
                + (f"; {differ} predictions differ" if differ else ""),
            )
    line = f"{same} of {figures} figures are the same to the last prediction"
    if same < figures and on_gpus:
        line += ON_GPUS
    say(console, line)
    if others := len(made) - len(fits):
        say(console, f"not scored again: {others} fits whose weights final.keep: one leaves out")
    return same == figures and not missing


def _evaluate_each(
    run_dir: Path, encoders: Iterable[str], address: str | None, console: Console
) -> bool:
    """Evaluate the run of every encoder that has final fits."""
    scored = {name for name in encoders if read_final_fits(run_dir / name)}
    if not scored:
        raise InputError(f"{run_dir}: has no final fits yet")
    same = []
    for name in encoders:
        say(console, f"encoder {name}:" if name in scored else f"encoder {name}: {UNSCORED}")
        same.append(name in scored and evaluate(run_dir / name, address, console))
    return all(same)


def _by_weights(run_dir: Path, fits: Iterable[FinalFitResult], experiment: Experiment) -> Fits:
    """Return the final fits whose weights were kept, by their files.

    Raises:
        InputError: there are none, or the file of one that is kept is missing.
    """
    by_path = {weights_path(run_dir, fit.cell, fit.seed): fit for fit in fits}
    if not by_path:
        raise InputError(f"{run_dir}: has no final fits yet")
    winners = RunHistory.of(read_journal(run_dir / JOURNAL)).winners
    for path, fit in by_path.items():
        recipe = Recipe(**winners[fit.cell].tried) if fit.cell in winners else Recipe()
        if keeps(experiment.final, recipe, fit.seed) and not path.exists():
            raise InputError(f"{path} is missing; weights are kept by final.export: true")
    return {path: fit for path, fit in by_path.items() if path.exists()}


def _scored(
    prepared: Prepared,
    run_dir: Path,
    fits: Fits,
    address: str | None,
    tell: Callable[[str], None],
) -> Iterator[tuple[FinalFitResult, dict[str, SetScore], bool]]:
    """Yield each fit with the scores of its weights, as they come, and whether GPUs compute.

    `tell` gets a line about each machine that gets no work.
    """
    experiment = prepared.experiment
    descriptions = {path: _checked(path, prepared) for path in fits}
    boundaries = sorted({description.boundary for description in descriptions.values()})
    with joined(prepared, address, prepared.plan.store_bytes) as here:
        machines = here.checked(tell, test=TEST)
        with machines.pool as pool:
            tests = _tests(prepared, run_dir, fits, machines, boundaries)
            worker = Evaluator(machines.pretrained, tests, experiment.metric, experiment.resources)
            jobs = ((path, load_exported(path)) for path in fits)
            for (path, _), result in pool.map(Evaluator.score, worker, jobs):
                yield fits[path], result_of(result, "evaluate"), machines.cluster.gpus > 0


def _tests(
    prepared: Prepared, run_dir: Path, fits: Fits, machines: Machines, boundaries: Sequence[str]
) -> dict[str, SharedSplit]:
    """Make the features of the test sets on which all fits were scored.

    Raises:
        InputError: their images are not those.
    """
    listed = TEST_IMAGES.read(run_dir)
    read = images_read(read_journal(run_dir / JOURNAL))
    tests: dict[str, SharedSplit] = {}
    for name, test in prepared.dataset.tests.items():
        if any(name not in fit.tests for fit in fits.values()):
            continue  # it was added, and is not scored yet
        stage = machines.feature_stage(prepared, test.source)
        most = prepared.experiment.data.max_unreadable
        made = stage.run({name: test.split}, boundaries, most)
        split = made.contents[name].split
        images = zip(split.keys, split.labels, strict=True)
        before = listed[listed["set"] == name]
        if [*images] != [*zip(before["key"], before["label"], strict=True)]:
            raise InputError(f"{run_dir}: the images of {name} are not those it was scored on")
        digest = made.contents[name].digest
        if read.get(name, digest) != digest:
            raise InputError(f"{run_dir} was scored on other images of {name}, by the same names")
        tests |= made.splits
    return tests


def _checked(path: Path, prepared: Prepared) -> Description:
    """Read what a file of weights says of them; raise InputError if they are another run's."""
    description, weights = load_exported(path)
    fingerprint, classes = prepared.pretrained.fingerprint, prepared.dataset.classes
    if (description.fingerprint, description.classes) != (fingerprint, classes):
        raise InputError(f"{path}: of another encoder or of other classes than this run's")
    _classifier(path, (description, weights), prepared.pretrained, Device("cpu"))
    return description


def _classifier(path: Path, winner: Exported, pretrained: Pretrained, device: Device) -> Classifier:
    """Build the classifier of a file's weights; raise InputError if they are not its recipe's."""
    description, weights = winner
    try:
        return rebuilt(description, weights, pretrained.encoder, description.boundary, device)
    except ValueError as error:
        raise InputError(f"{path}: {' '.join(str(error).split())}") from None


@dataclass(frozen=True, eq=False)
class Evaluator:
    """Predicts the test images with weights from files, in a process of its own."""

    pretrained: ray.ObjectRef[Pretrained]
    tests: Mapping[str, SharedSplit]
    metric: Metric
    resources: ResourcesConfig

    def score(self, job: tuple[Path, Exported]) -> dict[str, SetScore]:
        """Return accuracy and predictions on each test set."""
        torch.set_num_threads(max(1, int(self.resources.cpus_per_trial)))
        path, winner = job
        pretrained: Pretrained = fetch(self.pretrained)
        device = Device(own_device(self.resources.deterministic), winner[0].precision)
        boundary = winner[0].boundary
        classifier = _classifier(path, winner, pretrained, device)
        return score_tests(
            self.tests,
            lambda test: classifier.logits(test.examples(boundary), device),
            self.metric,
        )
