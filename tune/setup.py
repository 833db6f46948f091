"""An experiment made ready: data listed, encoder loaded, plan checked; and what follows from it."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import ray

from data import (
    Dataset,
    Draws,
    FeatureStore,
    ImageSource,
    cache_root,
    describe,
    load_dataset,
)
from data.decoding import DECODING
from errors import InputError
from files import expanded
from models.augmentation import Augmentation
from models.config import PrecisionName
from models.encoder import HEAD
from models.flops import training_memory
from models.loading import Pretrained, load_pretrained
from models.selection import select
from models.zero_shot import Prompts
from partitions import Partition, Shots, titled
from records import TEST, Cell, NodeView, Winner
from report.formatting import amounts
from search_spaces import Experiment
from tune.features.cache import EncoderCache
from tune.features.label_audit import left_out
from tune.features.plan import Plan, final_seeds, make_plan, selections_of
from tune.features.stage import FeatureStage
from tune.features.worker import EncoderWorker
from tune.kinds import fitted
from tune.run_dir import identity
from tune.trials.final_fits import FinalFitJob, final_fits
from tune.workers.actor_pool import ActorPool
from tune.workers.cluster import Cluster
from tune.workers.own_parts import take_along
from tune.workers.placement import Layers, Placement, check_room

ENCODING = 1.25  # times the encoder's weights: with the activations of a few images
FINGERPRINT = 32  # characters of it in a folder's name


@dataclass(frozen=True)
class Prepared:
    """An experiment with its data listed, its encoder loaded and its plan checked.

    Attributes:
        experiment: with the choices that the encoder has.
        partitions: number of training images of each partition, as the search draws it.
    """

    experiment: Experiment
    dataset: Dataset
    pretrained: Pretrained
    plan: Plan
    cache: Path
    partitions: Mapping[Partition, int]
    draws: Draws

    @property
    def audits(self) -> bool:
        """Whether labels are audited: it takes embeddings, which a probe needs, too."""
        return HEAD in self.plan.boundaries and not self.not_audited

    @property
    def not_audited(self) -> tuple[str, ...]:
        """Why labels are not audited although there are embeddings, in a line."""
        if HEAD not in self.plan.boundaries:
            return ()
        images = sum(self.plan.images[name] for name in ("train", "val", TEST))
        return tuple(left_out(images, len(self.dataset.classes)))


def prepare(
    experiment: Experiment, *, searches: bool = True, dataset: Dataset | None = None
) -> Prepared:
    """Load data and encoder, and make the plan; check all that can be wrong without a GPU.

    Where a search follows, no two partitions may be the same images. A `dataset` has been listed.
    """
    take_along()
    dataset = dataset or load_dataset(experiment.data)
    matched = experiment.data.validation == "matched"
    draws = Draws.of(dataset.train, dataset.val, experiment.seed, matched)
    partitions = {p: len(draws.rows(p, 0)) for p in experiment.data.amounts}
    if searches:
        _check_partitions(partitions, "images" if dataset.train.groups is None else "groups")
    cache = cache_root(experiment.features.cache)
    pretrained = load_encoder(experiment, dataset, cache)
    experiment, kinds = fitted(experiment, pretrained.encoder)
    needed = draws.needed(final_seeds(experiment, partitions))
    tests = {name: len(test.split) for name, test in dataset.tests.items()}
    listed = {"train": len(dataset.train), "val": len(dataset.val)} | tests
    images = {name: len(rows) for name, rows in needed.items()} | tests
    cached = sum(_cached_bytes(cache, part, experiment) for part in pretrained.parts)
    lines = [*describe(dataset), *_few_shots(experiment, dataset), *kinds]
    plan = make_plan(
        experiment, pretrained.encoder, listed, images, partitions, cache, cached, lines
    )
    plan.check(cache)
    return Prepared(experiment, dataset, pretrained, plan, cache, partitions, draws)


def load_encoder(experiment: Experiment, dataset: Dataset, cache: Path) -> Pretrained:
    """Load the encoder, and the text head if a method needs it; `cache` keeps such heads."""
    prompts = None
    if experiment.needs_zero_shot:
        prompts = Prompts(dataset.words, experiment.data.templates)
    return load_pretrained(experiment.model, prompts, cache / "zero_shot")


def feature_stage(
    prepared: Prepared,
    pretrained: ray.ObjectRef[Pretrained],
    pool: ActorPool,
    precision: PrecisionName,
    source: ImageSource,
    store: float,
) -> FeatureStage:
    """Return the stage that makes this experiment's features of a source's images.

    The smallest object store has `store` bytes.
    """
    experiment = prepared.experiment
    features, local = experiment.features, local_folder(experiment)
    rest = f"{features.dtype}-{precision}-decoding{DECODING}"
    if precision != "float32":
        rest += "-exact-stem"  # others have rounded the residual stream
    whole = prepared.pretrained
    parts = whole.parts
    caches = tuple(
        EncoderCache(
            FeatureStore(prepared.cache, f"{name}-{rest}", local),
            EncoderWorker(
                pretrained=pretrained,
                source=source,
                augmentation=Augmentation(experiment.augmentation, part.size),
                batch_size=features.batch_size,
                dtype=features.dtype,
                precision=precision,
                on_a_node=pool.on_a_node,
                part=number,
            ),
        )
        for number, (part, name) in enumerate(zip(parts, names_of_features(whole), strict=True))
    )
    return FeatureStage(caches, pool, prepared.plan.map_above(store))


def names_of_features(pretrained: Pretrained) -> tuple[str, ...]:
    """Name what the folders of an encoder's features begin with, of each that is joined in it."""
    return tuple(part.fingerprint[:FINGERPRINT] for part in pretrained.parts)


def local_folder(experiment: Experiment) -> Path | None:
    """Name the folder of each machine's own disk, if there is one."""
    local = experiment.features.local
    return expanded(local, "features.local").absolute() if local else None


def _cached_bytes(cache: Path, pretrained: Pretrained, experiment: Experiment) -> int:
    """Count the bytes of an encoder's features that are on disk."""
    name = f"{pretrained.fingerprint[:FINGERPRINT]}-{experiment.features.dtype}-*"
    files = [file for folder in cache.glob(name) for file in folder.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)


def identity_of(prepared: Prepared) -> dict[str, str]:
    """Name what the results of an experiment rest on besides its settings."""
    pretrained = prepared.pretrained
    return identity(prepared.dataset, pretrained.fingerprint, pretrained.text_fingerprint)


def run_fingerprint(prepared: Prepared) -> str:
    """Name all that a fit depends on besides its recipe."""
    experiment, fingerprint = prepared.experiment, prepared.pretrained.fingerprint
    settings = experiment.resolved()
    return json.dumps(
        [
            identity(prepared.dataset, fingerprint),
            settings["augmentation"],
            settings["features"]["dtype"],
            *(settings["data"][key] for key in ("templates", "validation")),
        ]
    )


def _few_shots(experiment: Experiment, dataset: Dataset) -> Iterator[str]:
    """Tell of classes with fewer training images than a row of shots asks for."""
    counts = np.bincount(dataset.train.labels, minlength=len(dataset.classes))
    for shots in experiment.data.shots:
        if few := int((counts < shots).sum()):
            least = int(counts.argmin())
            have = "class has" if few == 1 else "classes have"
            yield (
                f"{titled(Shots(shots))}: {few} {have} fewer training images, the fewest "
                f"{dataset.classes[least]!r} with {counts[least]}; all of them are taken"
            )


def _check_partitions(partitions: Mapping[Partition, int], units: str) -> None:
    """Raise InputError where percentages, or shots, are one set: nested draws of one size."""
    alike: dict[tuple[str, int], list[Partition]] = {}
    for partition, images in partitions.items():
        key = "data.shots" if isinstance(partition, Shots) else "data.partitions"
        alike.setdefault((key, images), []).append(partition)
    same = {where: names for where, names in alike.items() if len(names) > 1}
    if not same:
        return
    (key, images), *others = same
    clauses = [f"{amounts(same[key, images])} are the same {images} training images"]
    clauses += [f"{amounts(same[other])} the same {other[1]}" for other in others]
    raise InputError(
        f"{key}: {', '.join(clauses)} (a partition is of whole "
        f"{units}, at least one of every class); "
        "allowed: one partition for each training set, drop the others"
    )


def final_fits_of(prepared: Prepared, winners: Mapping[Cell, Winner]) -> list[FinalFitJob]:
    """List the final fits that an experiment asks for."""
    final, digest = prepared.experiment.final, prepared.dataset.scored_digest
    return final_fits(winners, final, prepared.plan.seeds, digest)


def placement(
    prepared: Prepared, cluster: Cluster, nodes: Collection[NodeView], precision: PrecisionName
) -> Placement:
    """Decide how the trials of an experiment are placed on the machines there are.

    Raises:
        InputError: no GPU has room for what a method trains.
    """
    share = min(1.0, cluster.slot.get("GPU", 0.0))
    memory = {
        node.id: int(share * node.gpu_bytes)
        for node in nodes
        if share and node.gpu_bytes and node.id in cluster.slots_at
    }
    needs = _needs(prepared, precision) if memory else {}
    check_room(needs, memory, share)
    return Placement(cluster.slot, memory, cluster.slots_at, needs)


def largest_need(prepared: Prepared) -> int:
    """Estimate the bytes that the largest trial takes of a GPU, heads aside.

    It is no less than what encodes images takes, a few at a time.
    """
    encoder, boundaries = prepared.pretrained.encoder, prepared.plan.boundaries
    largest = int(ENCODING * prepared.plan.encoder_bytes)
    for name, method in prepared.experiment.methods.items():
        found = max(
            selections_of(name, method, encoder),
            key=lambda selection: (-encoder.index(selection.boundary), selection.count),
        )
        if found.parameters:
            fed = found.fed_from(boundaries)
            state, example = training_memory(encoder, found, fed, "float32")
            largest = max(largest, state + max(method.parsed.reachable("batch_size")) * example)
    return largest


def _needs(prepared: Prepared, precision: PrecisionName) -> dict[Layers, tuple[int, int]]:
    """Count what training takes of a GPU, by layers; with LoRA where a method always uses it."""
    encoder, boundaries = prepared.pretrained.encoder, prepared.plan.boundaries
    needs: dict[Layers, tuple[int, int]] = {}
    for name, method in prepared.experiment.methods.items():
        rank = min(method.parsed.reachable("lora_rank"))
        for found in selections_of(name, method, encoder):
            recipe = found.recipe.model_copy(update={"lora_rank": rank})
            selection = select(recipe, encoder)
            if selection.parameters:
                layers, fed = (recipe.blocks, recipe.kinds), selection.fed_from(boundaries)
                taken = training_memory(encoder, selection, fed, precision)
                needs[layers] = max(taken, needs.get(layers, taken))
    return needs


def expected_test_seconds(prepared: Prepared, seconds: float) -> float:
    """Estimate the seconds of the test sets' features from those of train and validation."""
    images = prepared.plan.images
    made = images["train"] * (1 + prepared.experiment.views) + images["val"]
    return seconds * sum(images[name] for name in prepared.dataset.tests) / made
