"""Shards that are read from a disk of the machine's own."""

from __future__ import annotations

import errno
import fcntl
import multiprocessing
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from data.features import FeatureStore, LostFeaturesError, ShardRows, local_copies

DIGESTS = [f"{n:064x}" for n in range(12)]
VALUES = np.arange(36, dtype=np.float32).reshape(12, 3)


@pytest.fixture(autouse=True)
def new_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if it had refused nothing yet."""
    monkeypatch.setattr(local_copies, "_refused", set())


@pytest.fixture
def fast(tmp_path: Path) -> Path:
    return tmp_path / "fast"


@pytest.fixture
def rows(tmp_path: Path, fast: Path) -> ShardRows:
    """Twelve rows in three shards."""
    store = FeatureStore(tmp_path / "cache", "f0", fast)
    for begin in range(0, 12, 4):
        store.add("head", DIGESTS[begin : begin + 4], {"x": VALUES[begin : begin + 4]})
    found = pickle.loads(pickle.dumps(store)).locate("head", DIGESTS)["x"]
    assert not fast.exists()
    return found


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def check(rows: ShardRows, *numbers: int) -> None:
    wanted: NDArray[np.int64] = np.array(numbers or range(12))
    np.testing.assert_array_equal(rows[wanted], VALUES[wanted])


def test_the_first_reader_copies_the_shards_that_it_needs(rows: ShardRows, fast: Path) -> None:
    check(rows, 5, 6, 11)
    assert [path.relative_to(fast) for path in files(fast)] == sorted(
        Path("f0", "head", rows.shards[number].name) for number in set(rows.places[[5, 11], 0])
    )
    check(rows)
    assert len(files(fast)) == 3


def test_rows_are_read_there_although_the_cache_is_away(rows: ShardRows) -> None:
    check(rows)
    for shard in rows.shards:
        shard.unlink()
    check(rows)


def test_what_does_not_fit_is_read_from_the_cache(
    rows: ShardRows, fast: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    size, asked = rows.shards[0].stat().st_size, []

    def usage(_: Path) -> SimpleNamespace:
        asked.append(len(files(fast)))
        return SimpleNamespace(free=local_copies.RESERVE + 1.5 * size - asked[-1] * size)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    check(rows)
    check(rows)
    assert len(files(fast)) == 1
    assert asked == [0, 1]  # and not again
    (line,) = caplog.messages
    assert line == (
        f"features.local: {fast}/f0/head: No space left on device; other shards are read from the "
        "cache"
    )


def test_a_folder_that_cannot_be_used_stops_nothing(rows: ShardRows, fast: Path) -> None:
    fast.write_text("a file")
    check(rows)
    check(rows)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [flip, cut])
def test_a_damaged_copy_is_removed_and_the_cache_read(
    rows: ShardRows, fast: Path, damage: Callable[[Path], None]
) -> None:
    check(rows)
    for copy in files(fast):
        damage(copy)
    check(rows)
    assert files(fast) == []
    check(rows)
    assert files(fast) == []  # this process trusts the disk no more


def test_a_copy_that_cannot_be_read_is_not_tried_again(
    rows: ShardRows, fast: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check(rows)
    plain, tried = os.open, []

    def failing(path: Path, flags: int) -> int:
        if path.is_relative_to(fast):
            tried.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(path, flags)

    monkeypatch.setattr(os, "open", failing)
    check(rows)
    check(rows)
    assert len(tried) == 3


def test_a_disk_that_fails_stops_nothing(
    rows: ShardRows,
    fast: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor one where the folder is another user's."""
    plain, asked = Path.stat, []

    def failing(path: Path, *, follow_symlinks: bool = True) -> os.stat_result:
        if path.is_relative_to(fast):
            asked.append(path)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return plain(path, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(Path, "stat", failing)
    check(rows)
    check(rows)
    assert len(asked) == 3  # and not again
    assert len(caplog.messages) == 1


def test_a_damaged_shard_is_not_copied(rows: ShardRows, fast: Path) -> None:
    damaged = rows.shards[rows.places[11, 0]]
    flip(damaged)
    check(rows, *range(8))
    with pytest.raises(LostFeaturesError):
        rows[np.array([8, 11])]
    assert len(files(fast)) == 2


def test_a_shard_that_another_process_copies_is_not_waited_for(rows: ShardRows, fast: Path) -> None:
    """Nor is one that was killed as it copied."""
    folder = fast / "f0" / "head"
    folder.mkdir(parents=True)
    temporary = [folder / f".{shard.name}.tmp" for shard in rows.shards]
    for path in temporary:
        path.write_bytes(b"half")
    with temporary[0].open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        check(rows)
        assert files(folder) == sorted([temporary[0], *(folder / s.name for s in rows.shards[1:])])
    check(rows)
    assert files(folder) == sorted(folder / shard.name for shard in rows.shards)


def read_all(rows: ShardRows) -> bool:
    return bool((rows[np.random.default_rng().permutation(12)].sum() == VALUES.sum()).all())


def test_many_processes_copy_at_once(rows: ShardRows, fast: Path) -> None:
    with multiprocessing.get_context("fork").Pool(6) as pool:
        assert all(pool.map(read_all, [rows] * 60))
    assert [path.name for path in files(fast)] == sorted(shard.name for shard in rows.shards)


def test_copies_count_as_room(rows: ShardRows, fast: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check(rows)
    held = sum(path.stat().st_size for path in files(fast))
    for free, room in ((local_copies.RESERVE + 7, held + 7), (5, held)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert local_copies.room_for_copies(fast, ("f0",)) == room
        assert local_copies.room_for_copies(fast, ("f1",)) == room - held  # of another encoder
