"""What people are told of a data set before a run."""

from __future__ import annotations

from pathlib import Path

from data import DataConfig, describe, load_dataset


def described(folder: Path, counts: dict[str, int], **settings: object) -> list[str]:
    for name, count in counts.items():
        (folder / name).mkdir()
        for row in range(count):
            (folder / name / f"{row}.jpg").touch()
    config = DataConfig.model_validate({"source": f"folder:{folder}", **settings})
    return describe(load_dataset(config))


def test_classes_are_named_with_their_images(tmp_path: Path) -> None:
    assert described(tmp_path, {"square": 5, "cross": 8, "disc": 7})[0] == (
        "3 classes: cross (8), disc (7), square (5)"
    )


def test_of_many_classes_the_largest_and_the_smallest_are_named(tmp_path: Path) -> None:
    lines = described(tmp_path, {f"c{n:02}": 3 + n for n in range(20)})
    assert lines[0] == (
        "20 classes by size: c19 (22), c18 (21), c17 (20), c16 (19), c15 (18), 12 more, "
        "c02 (5), c01 (4), c00 (3)"
    )


def test_what_was_passed_over_and_warnings_follow(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "phone" / "cat").mkdir(parents=True)
    (tmp_path / "phone" / "cat" / "a.jpg").touch()
    (tmp_path / "phone" / "cat" / "b.mov").touch()
    extra = {"phone": {"source": f"folder:{tmp_path / 'phone'}"}}
    lines = described(tmp_path / "photos", {"cat": 9, "dog": 9, "None": 1}, extra_tests=extra)
    assert lines[1] == "phone: 1 file passed over: 1 .mov"
    assert lines[2:] == [
        "warning: val has no image of 1 of 3 classes: None",
        "warning: test has no image of 1 of 3 classes: None",
        "warning: phone has no image of 2 of 3 classes: None, dog",
        "warning: class 'None' looks like a missing label",
    ]
