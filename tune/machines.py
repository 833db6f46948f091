"""The machines of a command: joined, asked what they have, and found fit. No command has others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import ray

from data import ImageSource
from data.features import room_for_copies
from models.config import PrecisionName
from models.loading import Pretrained
from records import NodeView
from tune.features.stage import FeatureStage
from tune.setup import (
    Prepared,
    feature_stage,
    largest_need,
    local_folder,
    names_of_features,
)
from tune.storage.storage import Storage
from tune.workers.actor_pool import ActorPool
from tune.workers.cluster import Cluster, connected
from tune.workers.machines import BarredMachines
from tune.workers.shared_folders import Mark, SharedFolder, marked
from tune.workers.survey import Admission, ask_devices, sample_of, survey


@dataclass(frozen=True)
class Machines:
    """Machines that are fit for an experiment's work.

    Machines that join are asked by the `admission`, where any can; those found unfit are `barred`.

    Attributes:
        nodes: what each has.
        precision: in which the devices compute.
        pool: makes features and fits on them.
        pretrained: the encoder, for all processes.
    """

    cluster: Cluster
    nodes: Sequence[NodeView]
    precision: PrecisionName
    pool: ActorPool
    pretrained: ray.ObjectRef[Pretrained]
    admission: Admission | None
    barred: BarredMachines

    def feature_stage(self, prepared: Prepared, source: ImageSource) -> FeatureStage:
        """Return the stage that makes an experiment's features of a source's images."""
        store = self.cluster.store
        return feature_stage(prepared, self.pretrained, self.pool, self.precision, source, store)


@dataclass(frozen=True)
class Joined:
    """Machines that have not been asked yet; `marks` lie in the folders that they must share."""

    prepared: Prepared
    cluster: Cluster
    marks: Sequence[Mark]

    def checked(
        self,
        tell: Callable[[str], None],
        note: Callable[[tuple[NodeView, ...]], None] = lambda nodes: None,
        test: str | None = None,
    ) -> Machines:
        """Check the machines.

        `tell` gets a line about each machine that joins later and is unfit, or whose own disk is
        too small; `note` what they all say of themselves, before they are judged.
        They must see images of the training split, or of a `test` set.

        Raises:
            InputError: a machine sees no images or lacks a shared folder, or its GPU cannot be used
                as asked.
        """
        cluster, dataset = self.cluster, self.prepared.dataset
        config = self.prepared.experiment
        source, split = dataset.source, dataset.train
        if test is not None:
            source, split = dataset.tests[test].source, dataset.tests[test].split
        local, room = local_folder(config), None
        if local:
            room = partial(room_for_copies, local, names_of_features(self.prepared.pretrained))
        found = survey(cluster, source, split.keys, self.marks, room)
        note(tuple(found.nodes))
        found.check(config.data.source)
        found.check_share(cluster.slot)
        if local:
            needed = self.prepared.plan.mapped_bytes(cluster.store)
            for line in found.short_of_room(local, needed):
                tell(line)
        devices = ask_devices(cluster, config.model.precision)
        admission, barred = None, BarredMachines(tell)
        if cluster.grows:
            known, keys = frozenset(node.id for node in found.nodes), sample_of(split.keys)
            admission = Admission(known, source, keys, tuple(self.marks), devices.precision)
        return Machines(
            cluster,
            devices.sized(found.nodes),
            devices.precision,
            ActorPool(cluster.slot, cluster.grows, admission=admission, barred=barred),
            ray.put(self.prepared.pretrained),
            admission,
            barred,
        )


@contextmanager
def joined(
    prepared: Prepared, address: str | None, store_bytes: int, own: SharedFolder | None = None
) -> Iterator[Joined]:
    """Start a local Ray, or join the cluster at `address`; leave it at the end.

    The object store of a local one holds `store_bytes`. Machines must share the `own` folder, too.

    Raises:
        InputError: see `connected`.
    """
    need = partial(largest_need, prepared)
    with (
        connected(prepared.experiment.resources, address, store_bytes, need) as cluster,
        marked(shared_folders(prepared, cluster, own)) as marks,
    ):
        yield Joined(prepared, cluster, marks)


def shared_folders(
    prepared: Prepared, cluster: Cluster, own: SharedFolder | None = None
) -> list[SharedFolder]:
    """List what machines must share: the command's `own` folder, and the cache.

    One machine alone need share nothing.
    """
    if cluster.nodes == 1 and not cluster.grows:
        return []
    cache = Storage.at(prepared.cache)
    each = SharedFolder(cache, "features.cache", "the features that each writes")
    return [own, each] if own else [each]
