"""An audit holds images out together that belong together, and finds labels that were changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tune.features.label_audit
from data import FeatureStore, Split
from records import LabelIssue
from tune.features.label_audit import HeldOutProbe, audit_labels, audited_images, left_out
from tune.workers.object_store import SharedArray, SharedSplit

NAMES = ("rose", "tulip", "daisy")
COUNTS = {"train": 120, "val": 60, "test": 60}
Features = dict[str, tuple[SharedSplit, Split]]


class Here:
    """A pool that does its jobs at once, and keeps the context of the last ones."""

    context: HeldOutProbe

    def map(
        self, work: Callable[[Any, Any], Any], context: Any, jobs: Iterable[Any]
    ) -> Iterator[tuple[Any, Any]]:
        self.context = context
        return ((job, work(context, job)) for job in jobs)


def blobs(
    folder: Path, groups: Callable[[str, int], str] | None = None, third: float = 1
) -> Features:
    """Three classes, each around a direction of its own, image 3 farther out; no label is wrong."""
    rng, found = np.random.default_rng(0), {}
    for name, n in COUNTS.items():
        labels = np.arange(n) % len(NAMES)
        array = 3 * np.eye(len(NAMES), 8)[labels] + 0.3 * rng.standard_normal((n, 8))
        store = FeatureStore(folder, name)
        array[3] *= third
        keys = tuple(f"{row}.jpg" for row in range(n))
        digests = tuple(f"{name} {row}" for row in range(n))
        members = groups and tuple(groups(name, row) for row in range(n))
        store.add("head", digests, {"x": array.astype(np.float16)})
        shared = SharedSplit(labels, {"head": SharedArray(store.locate("head", digests)["x"])})
        found[name] = (shared, Split(keys, labels, members, digests))
    return found


def relabelled(features: Features, split: str, labels: Sequence[int]) -> Features:
    """The same with other labels in a split."""
    shared, images = features[split]
    given = np.array(labels)
    changed = Split(images.keys, given, images.groups, images.digests)
    return features | {split: (SharedSplit(given, shared.features), changed)}


def audited(features: Features, pool: Here | None = None) -> tuple[list[LabelIssue], list[str]]:
    said: list[str] = []
    here: Any = pool or Here()
    found = audit_labels(features, NAMES, here, seed=0, threads=1, say=said.append)
    return found, said


def test_labels_that_were_changed_are_found_in_every_split(tmp_path: Path) -> None:
    features = blobs(tmp_path)
    changed = {}
    for split, (_, images) in features.items():
        labels = images.labels.tolist()
        for row in range(0, len(labels), 14):
            changed[split, f"{row}.jpg"] = NAMES[labels[row]]
            labels[row] = (labels[row] + 1) % 3
        features = relabelled(features, split, labels)
    found, _ = audited(features)
    assert len(found) >= 0.8 * len(changed)
    assert {issue.split for issue in found} == {*COUNTS}
    for issue in found:
        assert issue.suggested == changed[issue.split, issue.key] != issue.label
        assert issue.given_probability < 0.3 < 0.6 < issue.suggested_probability


def test_images_of_a_group_or_of_equal_contents_are_held_out_together(tmp_path: Path) -> None:
    features = blobs(tmp_path, lambda split, row: f"{split} {row // 6}")
    shared, images = features["test"]
    digests = ("train 7", *(images.digests or ())[1:])
    features["test"] = (shared, Split(images.keys, images.labels, images.groups, digests))
    pool = Here()
    audited(features, pool)
    train, test = pool.context.folds[:120], pool.context.folds[180:]
    assert all(len(set(train[burst : burst + 6])) == 1 for burst in range(0, 120, 6))
    assert set(train[6:12]) == set(test[:6])
    assert len(set(train)) == 5


def test_a_class_that_is_held_out_at_once_is_not_judged(tmp_path: Path) -> None:
    train = blobs(tmp_path, third=2)["train"]  # more of a rose than the others
    for label, keys in ((2, []), (1, ["3.jpg"])):  # the one daisy, or one of many tulips
        labels = [label if row == 3 else row % 3 % 2 for row in range(120)]
        found, _ = audited(relabelled({"train": train}, "train", labels))
        assert [issue.key for issue in found if issue.key == "3.jpg"] == keys


def test_where_no_label_is_wrong_none_is_doubted(tmp_path: Path) -> None:
    assert audited(blobs(tmp_path)) == ([], [])


def test_of_many_images_a_share_is_drawn_by_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune.features.label_audit, "MOST", 60)
    pool = Here()
    _, said = audited(blobs(tmp_path), pool)
    assert said == ["label audit: 60 of 240 images, drawn by class"]
    assert np.bincount(pool.context.labels).tolist() == [20, 20, 20]
    assert [len(rows) for rows in pool.context.rows] != [60, 0, 0]


def test_blocks_judge_as_one_pass_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    features = relabelled(blobs(tmp_path), "val", [(row + row // 40) % 3 for row in range(60)])
    whole, _ = audited(features)
    monkeypatch.setattr(tune.features.label_audit, "BLOCK", 3 * len(NAMES))
    assert audited(features)[0] == whole
    assert whole


def test_workers_say_a_few_numbers_of_each_image(tmp_path: Path) -> None:
    pool = Here()
    audited(blobs(tmp_path), pool)
    found = pool.context.judged(0)
    held = int((pool.context.folds == 0).sum())
    assert [values.shape for values in found] == [(held,)] * 3


@pytest.mark.parametrize(
    ("images", "classes", "judged"),
    [
        (40_000, 100, 40_000),
        (70_000, 100, 50_000),
        (1_300_000, 1_000, 50_000),
        (100_000, 2_000, 25_000),
        (100_000, 5_000, 0),
        (9_000, 5_000, 9_000),
    ],
)
def test_of_many_classes_fewer_images_are_judged_or_none(
    images: int, classes: int, judged: int
) -> None:
    assert audited_images(images, classes) == judged
    assert len([*left_out(images, classes)]) == (judged == 0)


def test_one_group_alone_is_not_judged(tmp_path: Path) -> None:
    assert audited(blobs(tmp_path, lambda *_: "one object")) == ([], [])
