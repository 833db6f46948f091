"""Measure how a run's cost grows: each figure is for one of what grows, so a flat row is linear.

`python -m benchmarks.scaling --grow` prints the table. All is CPU time of this process, which other
work on the machine may stretch by half; but for digests it has one thread. Memory is what a process
of its own takes beyond its imports.
"""

from __future__ import annotations

import io
import itertools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from data import DataConfig, Dataset, Draws, FeatureStore, load_dataset
from data.features import KnownFiles, digest_images, digests, file_stamps
from models import load_pretrained, logistic_regression
from models.logistic_regression import solve_probes
from partitions import Partition
from records import JournalWriter, TrialReport
from search_spaces import load_experiment
from tune.search.search import Proposal, Search
from tune.search.simulation import Player, a_report

ROOT = Path(__file__).resolve().parents[1]
DIGITS = ROOT / "search_spaces" / "digits_all.yaml"
DISTINCT = 2000
"""Photos that differ to the eye; the others repeat them, with bytes of their own at the end."""
IMAGES, CLASSES = (10_000, 50_000, 200_000), (100, 1_000, 5_000)
TRIALS, PARTITIONS = (10, 100, 400), (11, 100)
EACH = 20  # images of a class
SHARD = 256  # images whose features are written at once
DIM, PROBED = 512, ((1_000, 1_280), (5_000, 20))  # embeddings; classes x images of each
ITERATIONS = 3  # of a probe: enough for its peak

Row = tuple[str, list[str]]


def table() -> str:
    """Measure everything; returns Markdown tables."""
    with tempfile.TemporaryDirectory() as folder:
        images = _Photos().measured(Path(folder), [(n, 100) for n in IMAGES])
        classes = _Photos().measured(Path(folder), [(EACH * c, c) for c in CLASSES])
    searches = [(trials, 2) for trials in TRIALS], [(10, count) for count in PARTITIONS]
    trials, partitions = ([_search(*sizes) for sizes in each] for each in searches)
    probes = _transposed(_probe(*sizes) for sizes in PROBED)
    probed = [f"{classes:,} x {each:,}" for classes, each in PROBED]
    tables = {
        "images, of 100 classes": (map("{:,}".format, IMAGES), images),
        f"classes, of {EACH} images": (map("{:,}".format, CLASSES), classes),
        "trials a cell, 2 partitions": (map(str, TRIALS), _transposed(trials)),
        "partitions, 10 trials a cell": (map(str, PARTITIONS), _transposed(partitions)),
        "exact probe, classes x images": (probed, probes),
    }
    return "\n\n".join(_markdown(what, [*sizes], rows) for what, (sizes, rows) in tables.items())


def _markdown(what: str, sizes: Sequence[str], rows: list[Row]) -> str:
    lines = [[what, *sizes], ["---", *["---:"] * len(sizes)], *([name, *row] for name, row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _transposed(columns: Iterable[dict[str, str]]) -> list[Row]:
    found = [*columns]
    return [(name, [column[name] for column in found]) for name in found[0]]


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


class _Photos:
    """Folders of 28-pixel JPEGs, and what it costs to list, draw and encode them."""

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self._files = []
        for _ in range(DISTINCT):
            file = io.BytesIO()
            coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
            Image.fromarray(coarse).resize((28, 28), Image.Resampling.BILINEAR).save(file, "JPEG")
            self._files.append(file.getvalue())

    def measured(self, folder: Path, sizes: list[tuple[int, int]]) -> list[Row]:
        """Measure folders of some sizes (images, classes)."""
        return _transposed([self._measured(folder / f"{n}-{c}", n, c) for n, c in sizes])

    def _measured(self, folder: Path, images: int, classes: int) -> dict[str, str]:
        for number in range(classes):
            (folder / f"class{number}").mkdir(parents=True)
        for number, content in zip(range(images), itertools.cycle(self._files), strict=False):
            path = folder / f"class{number % classes}" / f"{number}.jpg"
            path.write_bytes(content + number.to_bytes(8, "little"))
        config = DataConfig(source=f"folder:{folder}")
        made = []
        listed = _seconds(lambda: made.append(load_dataset(config)))
        (dataset,) = made
        draws = Draws.of(dataset.train, dataset.val, 0, matched=False)
        drawn = _seconds(lambda: draws.needed(dict.fromkeys(range(1, 100), 3)))
        first, again, size = _digested(dataset, folder / "cache")
        return {
            "list, split, us an image": f"{1e6 * listed / images:.0f}",
            "draws of 99 partitions, 3 seeds, us an image": f"{1e6 * drawn / images:.1f}",
            "digest at first, again, us an image": f"{first:.0f}, {again:.0f}",
            "known digests, bytes an image": f"{size:.0f}",
            "find features on disk, us an image": f"{1e6 * _located(images, folder) / images:.0f}",
            "read, decode, encode, ms an image": f"{1e3 * _encoded(dataset):.2f}",
        }


def _digested(dataset: Dataset, cache: Path) -> tuple[float, float, float]:
    """Return the microseconds of an image, its file read or known, and bytes on disk."""
    source, keys = dataset.source, dataset.train.keys
    digests.SETTLED = 0  # the files are new

    def first() -> None:
        KnownFiles(cache, source).add(keys, digest_images(source, keys))

    def again() -> None:
        assert all(KnownFiles(cache, source).find(keys, file_stamps(source, keys)))

    each = [1e6 * _seconds(work) / len(keys) for work in (first, again)]
    (file,) = (cache / "files").iterdir()
    return each[0], each[1], file.stat().st_size / len(keys)


def _located(images: int, root: Path) -> float:
    """Measure how long the store takes to find the features of this many images, in seconds."""
    digests = [f"{number:064x}" for number in range(images)]
    for begin in range(0, images, SHARD):
        part = digests[begin : begin + SHARD]
        FeatureStore(root, "growth").add(
            "head", part, {"x": np.zeros((len(part), DIM), np.float16)}
        )
    return _seconds(lambda: FeatureStore(root, "growth").locate("head", digests))


def _encoded(dataset: Dataset) -> float:
    """Return the seconds of one image, by 500 of a dataset's training images."""
    pretrained = load_pretrained(load_experiment(DIGITS, []).model)
    keys = dataset.train.keys[:500]

    def encode() -> None:
        for begin in range(0, len(keys), 64):
            part = [dataset.source.image(key) for key in keys[begin : begin + 64]]
            pixels = torch.stack([pretrained.preprocess(image) for image in part])
            with torch.no_grad():
                pretrained.encoder.features(pixels, ["head"])

    return _seconds(encode) / len(keys)


def _search(trials: int, partitions: int) -> dict[str, str]:
    """Play a search of two methods whose scores are random."""
    rng = np.random.default_rng(0)
    rows: dict[Partition, int] = {n + 1: 10 * (n + 1) for n in range(partitions)}
    settings = [f"data.partitions={[*rows]}", f"search.trials={trials}"]
    experiment = load_experiment(DIGITS, settings, methods=("frozen", "llrd", "layer_norm"))

    def report(_: Proposal, milestone: int) -> TrialReport:
        return a_report(milestone, rng.random())

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.jsonl"
        with closing(JournalWriter(path)) as journal:
            search = Search(experiment, journal, rows)
            player = Player(search, report, lambda flying: flying[0], slots=4)
            seconds = _seconds(player.run)
        return {
            "proposal and reports, ms a trial": f"{1e3 * seconds / len(player.proposals):.1f}",
            "journal, KB a trial": f"{path.stat().st_size / 1e3 / len(player.proposals):.2f}",
        }


def _probe(classes: int, each: int) -> dict[str, str]:
    """Solve a probe in a process of its own, for its peak of memory."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe()
    process = context.Process(target=_solve, args=(classes, each, theirs))
    process.start()
    iteration, taken = ours.recv()
    process.join()
    return {"an iteration, s": f"{iteration:.1f}", "memory, GB": f"{taken / 1e9:.1f}"}


def _solve(classes: int, each: int, pipe: Connection) -> None:
    torch.set_num_threads(1)
    labels = torch.arange(classes).repeat_interleave(each)
    embeddings = torch.randn(len(labels), DIM)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    logistic_regression.MAX_ITERATIONS = ITERATIONS
    seconds = _seconds(lambda: solve_probes(embeddings, labels, classes, [1e-3]))
    rise = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    pipe.send((seconds / ITERATIONS, rise * 1024))
