"""What images hold: read by all machines, once as long as their files do not change."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data.features import Digested, KnownFiles, digest_images, file_stamps
from tune.features.worker import EncoderWorker
from tune.workers.actor_pool import ActorPool, result_of

FEW = 5_000
"""Images that the driver reads itself: it takes less time than to start processes."""
PART = 1_000  # images of a job


def digests_of(
    keys: Sequence[str], worker: EncoderWorker, pool: ActorPool, root: Path
) -> tuple[list[str], dict[int, str]]:
    """Return the digests of images, and by its position why one cannot be read.

    Its digest is empty. `root`, the cache directory, knows of files that were read before.

    Raises:
        InputError: a process failed again and again.
    """
    known = KnownFiles(root, worker.source)
    digests = known.find(keys, file_stamps(worker.source, keys))
    rows = [row for row, digest in enumerate(digests) if not digest]
    if not rows:
        return digests, {}
    new = [keys[row] for row in rows]
    found = _read_by_all(new, worker, pool) if len(new) > FEW else digest_images(worker.source, new)
    known.add(new, found)
    for row, digest in zip(rows, found.digests, strict=True):
        digests[row] = digest
    return digests, {rows[place]: why for place, why in found.unreadable.items()}


def _read_by_all(keys: Sequence[str], worker: EncoderWorker, pool: ActorPool) -> Digested:
    """Have the workers digest images, in parts."""
    jobs = [keys[begin : begin + PART] for begin in range(0, len(keys), PART)]
    places = {job[0]: PART * number for number, job in enumerate(jobs)}
    digests = [""] * len(keys)
    unreadable: dict[int, str] = {}
    stamps = np.empty((len(keys), 3), np.int64)
    for job, result in pool.map(EncoderWorker.digest, worker, jobs):
        part: Digested = result_of(result, "digests")
        begin = places[job[0]]
        digests[begin : begin + len(job)] = part.digests
        stamps[begin : begin + len(job)] = part.stamps
        unreadable |= {begin + row: why for row, why in part.unreadable.items()}
    return Digested(digests, unreadable, stamps)
