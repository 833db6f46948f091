"""Measure how a run's cost grows: each figure is for one of what grows, so a flat row is linear.

`python -m benchmarks.scaling --grow` prints the tables, `--rows images` one of them. A column is
measured in a process of its own: its CPU time, which other work on the machine may stretch by half,
has one thread but for digests; its memory is what it takes beyond its imports. `runs` makes whole
runs, and measures the peak memory of all their processes.
"""

from __future__ import annotations

import io
import itertools
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.limits import run_python
from data import DataConfig, Dataset, Draws, FeatureStore, load_dataset
from data.duplicates import HASH_BYTES, MAX_DISTANCE
from data.features import KnownFiles, digest_images, digests, file_stamps
from data.near_hashes import nearest_before
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

SMALL = ("data.partitions=[50,100]", "search.samples=2000", "search.trials=1", "final.seeds=1")
"""Settings of a whole run."""

Figures = dict[str, str]
"""A column of a table: what was measured, and how much it is."""


def table(rows: Sequence[str] = ()) -> str:
    """Measure what grows with each of `rows`, by default with all; returns Markdown tables."""
    return "\n\n".join(ROWS[row]() for row in rows or ROWS)


def _images() -> str:
    columns = [_apart(_photos, count, 100) for count in IMAGES]
    return _markdown("images, of 100 classes", map("{:,}".format, IMAGES), columns)


def _classes() -> str:
    columns = [_apart(_photos, EACH * count, count) for count in CLASSES]
    return _markdown(f"classes, of {EACH} images", map("{:,}".format, CLASSES), columns)


def _near() -> str:
    columns = [_apart(_near_duplicates, count) for count in IMAGES]
    return _markdown("images in search of duplicates", map("{:,}".format, IMAGES), columns)


def _trials() -> str:
    columns = [_apart(_search, trials, 2) for trials in TRIALS]
    return _markdown("trials a cell, 2 partitions", map(str, TRIALS), columns)


def _partitions() -> str:
    columns = [_apart(_search, 10, count) for count in PARTITIONS]
    return _markdown("partitions, 10 trials a cell", map(str, PARTITIONS), columns)


def _probes() -> str:
    columns = [_apart(_solve, *sizes) for sizes in PROBED]
    sizes = [f"{classes:,} x {each:,}" for classes, each in PROBED]
    return _markdown("exact probe, classes x images", sizes, columns)


def _runs() -> str:
    columns = [_run(count) for count in IMAGES]
    return _markdown("whole runs, images", map("{:,}".format, IMAGES), columns)


ROWS: dict[str, Callable[[], str]] = {
    "images": _images,
    "classes": _classes,
    "duplicates": _near,
    "trials": _trials,
    "partitions": _partitions,
    "probes": _probes,
    "runs": _runs,
}


def _markdown(what: str, sizes: Iterable[str], columns: Sequence[Figures]) -> str:
    lines = [[what, *sizes], ["---", *["---:"] * len(columns)]]
    lines += [[name, *(column[name] for column in columns)] for name in columns[0]]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _apart(work: Callable[..., Figures], *sizes: int) -> Figures:
    """Measure in a process of its own; adds the peak of its memory."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(_with_memory, work, *sizes).result()


def _with_memory(work: Callable[..., Figures], *sizes: int) -> Figures:
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    figures = work(*sizes)
    rise = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {**figures, "memory, MB": f"{rise / 1e6:,.0f}"}


def _seconds(work: Callable[[], object]) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


def _write_photos(folder: Path, images: int, classes: int) -> None:
    """Write 28-pixel JPEGs, each with bytes of its own."""
    rng = np.random.default_rng(0)
    files = []
    for _ in range(min(images, DISTINCT)):
        file = io.BytesIO()
        coarse = rng.integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(coarse).resize((28, 28), Image.Resampling.BILINEAR).save(file, "JPEG")
        files.append(file.getvalue())
    for number in range(classes):
        (folder / f"class{number}").mkdir(parents=True)
    for number, content in zip(range(images), itertools.cycle(files), strict=False):
        path = folder / f"class{number % classes}" / f"{number}.jpg"
        path.write_bytes(content + number.to_bytes(8, "little"))


def _photos(images: int, classes: int) -> Figures:
    """Measure what it costs to list, draw, digest and encode photos."""
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "photos"
        _write_photos(folder, images, classes)
        config = DataConfig(source=f"folder:{folder}")
        made = []
        listed = _seconds(lambda: made.append(load_dataset(config)))
        (dataset,) = made
        draws = Draws.of(dataset.train, dataset.val, 0, matched=False)
        drawn = _seconds(lambda: draws.needed(dict.fromkeys(range(1, 100), 3)))
        located = 1e6 * _located(images, Path(root)) / images
        first, again, size = _digested(dataset, Path(root) / "cache")
        return {
            "list, split, us an image": f"{1e6 * listed / images:.0f}",
            "draws of 99 partitions, 3 seeds, us an image": f"{1e6 * drawn / images:.1f}",
            "digest at first, again, us an image": f"{first:.0f}, {again:.0f}",
            "known digests, bytes an image": f"{size:.0f}",
            "find features on disk, us an image": f"{located:.0f}",
            "read, decode, encode, ms an image": f"{1e3 * _encoded(dataset):.2f}",
        }


def _near_duplicates(images: int) -> Figures:
    """Search hashes of 10 classes: random ones, and a fixed camera's, where few bits vary."""
    rng = np.random.default_rng(0)
    classes = np.sort(rng.integers(0, 10, images))
    figures = {}
    for free in (8 * HASH_BYTES, 24, 14, 6):
        bits = np.zeros((images, 8 * HASH_BYTES), np.uint8)
        bits[:, :free] = rng.integers(0, 2, (images, free), np.uint8)
        hashes = np.packbits(rng.permutation(bits, axis=1), axis=1)
        seconds = _seconds(partial(nearest_before, hashes, classes, MAX_DISTANCE))
        figures[f"{free} free bits, us an image"] = f"{1e6 * seconds / images:.1f}"
    return figures


def _run(images: int) -> Figures:
    """Run a whole search, of two methods on two partitions; the peak is of all its processes."""
    with tempfile.TemporaryDirectory() as root:
        _write_photos(Path(root) / "photos", images, 100)
        settings = [f"data.source=folder:{root}/photos", f"features.cache={root}/cache", *SMALL]
        command = [str(ROOT / "run_search.py"), str(DIGITS), "--out", root]
        command += ["--methods", "frozen,llrd", *(f"--set={setting}" for setting in settings)]
        _, _, peak = run_python(command)
    return {"memory of all processes, GB": f"{peak / 1e9:.2f}"}


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


def _search(trials: int, partitions: int) -> Figures:
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


def _solve(classes: int, each: int) -> Figures:
    labels = torch.arange(classes).repeat_interleave(each)
    embeddings = torch.randn(len(labels), DIM)
    logistic_regression.MAX_ITERATIONS = ITERATIONS
    seconds = _seconds(lambda: solve_probes(embeddings, labels, classes, [1e-3]))
    return {"an iteration, s": f"{seconds / ITERATIONS:.1f}"}
