from __future__ import annotations

import logging
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.numpy import save_file

from data import FeatureStore, LostFeaturesError, MissingFeaturesError, cache_root
from data.features import Arrays
from data.features.shards import read_digests
from errors import InputError

Read = Callable[[FeatureStore, list[str]], Arrays]
DIGESTS = [f"{number:064x}" for number in range(20)]


def features(digests: list[str]) -> dict[str, NDArray[np.float32]]:
    """A stand-in for an encoder: the numbers follow from the digest."""
    numbers = np.array([int(digest, 16) for digest in digests], dtype=np.float32)
    return {"x": numbers[:, None] + np.arange(3, dtype=np.float32), "scale": numbers**2}


def compute(store: FeatureStore, digests: list[str], boundary: str = "block 7") -> int:
    """Adds what is missing, in shards of 4; says how many rows that were."""
    rows = store.missing(boundary, digests)
    for start in range(0, len(rows), 4):
        chunk = [digests[row] for row in rows[start : start + 4]]
        store.add(boundary, chunk, features(chunk))
    return len(rows)


def compute_in_process(root: Path) -> int:
    return compute(FeatureStore(root, "f0"), DIGESTS)


def load(store: FeatureStore, digests: list[str]) -> Arrays:
    return store.load("block 7", digests)


def from_disk(store: FeatureStore, digests: list[str]) -> Arrays:
    """All rows of arrays that stay on disk."""
    found = store.locate("block 7", digests)
    return {name: rows[np.arange(len(digests))] for name, rows in found.items()}


reads = pytest.mark.parametrize("read", [load, from_disk])


def assert_right(found: Arrays, digests: list[str], names: Sequence[str] = ()) -> None:
    expected = features(digests)
    expected = {name: expected[name] for name in names or expected}
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.fixture
def store(tmp_path: Path) -> FeatureStore:
    return FeatureStore(tmp_path / "cache", "f0")


def shards(store: FeatureStore) -> list[Path]:
    return sorted(store.root.rglob("*.safetensors"))


@reads
def test_rows_come_in_the_order_asked_for(store: FeatureStore, read: Read) -> None:
    compute(store, DIGESTS)
    asked = [DIGESTS[row] for row in (19, 3, 3, 0, 11)]
    for _ in range(2):
        assert_right(read(store, asked), asked)


def test_a_second_run_computes_nothing_and_a_new_image_one_row(store: FeatureStore) -> None:
    assert compute(store, DIGESTS[:-1]) == 19
    again = FeatureStore(store.root, "f0")
    assert compute(again, DIGESTS[:-1]) == 0
    assert again.missing("block 7", DIGESTS) == [19]
    assert compute(again, DIGESTS) == 1


def test_equal_images_are_missing_once(store: FeatureStore) -> None:
    assert store.missing("head", ["a", "b", "a", "b", "c"]) == [0, 1, 4]


def test_boundaries_and_fingerprints_are_apart(store: FeatureStore) -> None:
    compute(store, DIGESTS, "head")
    assert len(store.missing("final", DIGESTS)) == 20
    assert len(FeatureStore(store.root, "f1").missing("head", DIGESTS)) == 20


@reads
def test_features_that_are_not_there_are_not_made_up(store: FeatureStore, read: Read) -> None:
    compute(store, DIGESTS[:4])
    with pytest.raises(MissingFeaturesError, match="boundary 'block 7'"):
        read(store, DIGESTS[:5])


def test_loaded_arrays_are_read_only(store: FeatureStore) -> None:
    compute(store, DIGESTS)
    for array in store.load("block 7", DIGESTS).values():
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_rows_on_disk_are_an_array_of_which_copies_are_read(store: FeatureStore) -> None:
    compute(store, DIGESTS)
    asked = [DIGESTS[row] for row in (19, 3, 3, 0, 11)]
    rows = pickle.loads(pickle.dumps(store.locate("block 7", asked)["x"]))
    assert (len(rows), rows.shape, rows.dtype, rows.nbytes) == (5, (3,), np.float32, 5 * 12)
    some = rows[np.array([4, 0, 0])]
    np.testing.assert_array_equal(some, features([asked[4], asked[0], asked[0]])["x"])
    some[:] = -1
    np.testing.assert_array_equal(rows[np.arange(5)], features(asked)["x"])
    assert rows[np.array([], np.int64)].shape == (0, 3)


def test_rows_on_disk_take_no_room_beside_their_shards(store: FeatureStore) -> None:
    compute(store, DIGESTS[:10])
    before = {path for path in store.root.rglob("*") if path.is_file()}
    from_disk(store, DIGESTS[:10])
    compute(store, DIGESTS)
    shards_now = set(shards(store))
    from_disk(store, DIGESTS)
    assert before < shards_now == {path for path in store.root.rglob("*") if path.is_file()}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 16
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-5])


@pytest.mark.parametrize("damage", [flip, truncate])
def test_damage_is_found_when_a_row_is_read(store: FeatureStore, damage: object) -> None:
    """And the row is missing from then on; rows of sound shards stay."""
    compute(store, DIGESTS)
    rows = pickle.loads(pickle.dumps(store.locate("block 7", DIGESTS)["x"]))
    (shard,) = (path for path in shards(store) if DIGESTS[11] in read_digests(path))
    damage(shard)  # type: ignore[operator]
    assert_right({"x": rows[np.arange(8)]}, DIGESTS[:8], ["x"])
    with pytest.raises(
        LostFeaturesError, match=r"^features.cache: .* is damaged or gone; "
    ) as lost:
        rows[np.arange(20)]
    assert "\n" not in str(lost.value)
    assert str(pickle.loads(pickle.dumps(lost.value))) == str(lost.value)
    with pytest.raises(LostFeaturesError):  # of another process, which finds it set aside
        rows[np.array([11])]
    assert [path.with_suffix("") for path in store.root.rglob("*.corrupt")] == [
        shard.with_suffix("")
    ]
    reader = FeatureStore(store.root, "f0")
    assert compute(reader, DIGESTS) == 4
    assert_right(from_disk(reader, DIGESTS), DIGESTS)


def test_a_shard_made_anew_meanwhile_is_not_set_aside(store: FeatureStore) -> None:
    """Another run has found it damaged, and its GPU rounds otherwise."""
    compute(store, DIGESTS[:4])
    rows = store.locate("block 7", DIGESTS[:4])["x"]
    other = {name: array + 1 for name, array in features(DIGESTS[:4]).items()}
    FeatureStore(store.root, "f0").add("block 7", DIGESTS[:4], other)
    with pytest.raises(LostFeaturesError):
        rows[np.array([0])]
    assert len(shards(store)) == 1


def test_to_locate_rows_reads_headers_alone(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute(store, DIGESTS)

    def whole(path: Path) -> None:
        raise AssertionError("a shard is read")

    monkeypatch.setattr("data.features.store.read_shard", whole)
    assert_right(from_disk(store, DIGESTS), DIGESTS)


def as_before(store: FeatureStore) -> None:
    """Make the shards those of an earlier commit, which had no checksums of rows."""
    for shard in shards(store):
        with safe_open(shard, "np") as file:
            metadata = {key: file.metadata()[key] for key in ("digests", "crc32")}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        save_file(arrays, shard, metadata)


@pytest.mark.parametrize("damage", [flip, truncate])
def test_shards_without_checksums_of_rows_are_verified_when_they_are_located(
    store: FeatureStore, damage: object
) -> None:
    compute(store, DIGESTS)
    as_before(store)
    reader = FeatureStore(store.root, "f0")
    assert compute(reader, DIGESTS) == 0
    assert_right(from_disk(reader, DIGESTS), DIGESTS)
    assert_right(load(reader, DIGESTS), DIGESTS)
    rows = reader.locate("block 7", DIGESTS)["x"]
    damage(shards(store)[2])  # type: ignore[operator]
    with pytest.raises(LostFeaturesError):
        rows[np.arange(20)]
    reader = FeatureStore(store.root, "f0")
    assert compute(reader, DIGESTS) == 4
    as_before(store)
    shard = shards(store)[1]
    damage(shard)  # type: ignore[operator]
    with pytest.raises(MissingFeaturesError):
        reader.locate("block 7", DIGESTS)
    assert not shard.exists()
    assert compute(reader, DIGESTS) == 4
    assert_right(from_disk(reader, DIGESTS), DIGESTS)


def flip_header(path: Path) -> None:
    """In a checksum of a row."""
    content = path.read_bytes()
    place = content.index(b'\\"<f4\\", [3], \\"') + 16
    digit = b"0" if content[place : place + 1] != b"0" else b"1"
    path.write_bytes(content[:place] + digit + content[place + 1 :])


@pytest.mark.parametrize(
    ("damage", "read"),
    [(flip, load), (truncate, load), (truncate, from_disk), (flip_header, from_disk)],
)
def test_a_damaged_shard_is_set_aside_and_computed_again(
    store: FeatureStore, damage: object, read: Read, caplog: pytest.LogCaptureFixture
) -> None:
    compute(store, DIGESTS)
    damage(shards(store)[2])  # type: ignore[operator]
    reader = FeatureStore(store.root, "f0")
    with caplog.at_level(logging.WARNING), pytest.raises(MissingFeaturesError):
        read(reader, DIGESTS)
    assert "set aside" in caplog.text
    assert len(list(store.root.rglob("*.corrupt"))) == 1
    assert compute(reader, DIGESTS) == 4
    assert_right(read(reader, DIGESTS), DIGESTS)


def test_a_shard_that_vanishes_is_missing(store: FeatureStore) -> None:
    compute(store, DIGESTS)
    from_disk(store, DIGESTS)
    shards(store)[0].unlink()
    with pytest.raises(MissingFeaturesError):
        from_disk(store, DIGESTS)
    assert compute(store, DIGESTS) == 4
    assert_right(from_disk(store, DIGESTS), DIGESTS)


def test_processes_may_compute_the_same_at_once(store: FeatureStore) -> None:
    with get_context("spawn").Pool(2) as pool:
        pool.map(compute_in_process, [store.root] * 4, chunksize=1)
    assert_right(store.load("block 7", DIGESTS), DIGESTS)


def compute_and_die(root: Path) -> None:
    """Killed in the midst of a write: half of its second shard is on disk."""
    store = FeatureStore(root, "f0")
    store.add("block 7", DIGESTS[:4], features(DIGESTS[:4]))

    def die(descriptor: int) -> None:
        os.truncate(descriptor, os.fstat(descriptor).st_size // 2)
        os.kill(os.getpid(), signal.SIGKILL)

    os.fsync = die
    store.add("block 7", DIGESTS[4:8], features(DIGESTS[4:8]))


def test_a_process_killed_as_it_writes_leaves_whole_rows_alone(store: FeatureStore) -> None:
    process = get_context("spawn").Process(target=compute_and_die, args=(store.root,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len([path for path in store.root.rglob("*") if path.is_file()]) == 2  # one of them half
    assert compute(store, DIGESTS) == len(DIGESTS) - 4
    assert_right(store.load("block 7", DIGESTS), DIGESTS)
    assert not list(store.root.rglob("*.corrupt"))


def test_rows_that_another_store_added_are_seen(store: FeatureStore) -> None:
    assert len(store.missing("block 7", DIGESTS)) == 20
    compute(FeatureStore(store.root, "f0"), DIGESTS)
    assert store.missing("block 7", DIGESTS) == []


def test_a_shard_that_another_machine_wrote_is_known_by_its_name(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder of a network file system is listed without it for a while."""
    FeatureStore(store.root, "f0").add("block 7", DIGESTS[:4], features(DIGESTS[:4]))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "glob", lambda folder, pattern: [])
        assert store.missing("block 7", DIGESTS[:4]) == [0, 1, 2, 3]
        store.adopt("block 7", DIGESTS[:4], "another machine")
        assert store.missing("block 7", DIGESTS[:5]) == [4]
        assert_right(load(store, DIGESTS[:4]), DIGESTS[:4])
    shards(store)[0].unlink()
    with pytest.raises(MissingFeaturesError):
        load(store, DIGESTS[:4])
    assert compute(store, DIGESTS[:4]) == 4


def test_a_shard_that_is_on_another_machine_alone_is_one_line(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data.features.store.WAITS", (0.0, 0.0))
    with pytest.raises(InputError, match=r"^features.cache: .*10\.0\.0\.7 .*at the same path$"):
        store.adopt("block 7", DIGESTS[:4], "10.0.0.7")
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        compute(FeatureStore(store.root, "f0"), DIGESTS[:4])

    monkeypatch.setattr("data.features.store.time.sleep", wait)
    store.adopt("block 7", DIGESTS[:4], "10.0.0.7")
    assert len(waited) == 1


def test_a_store_pickles_as_its_two_arguments(store: FeatureStore) -> None:
    compute(store, DIGESTS)
    content = pickle.dumps(store)
    assert DIGESTS[3].encode() not in content
    assert_right(pickle.loads(content).load("block 7", DIGESTS), DIGESTS)


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot write features") as error:
        compute(FeatureStore(tmp_path / "file", "f0"), DIGESTS)
    assert "\n" not in str(error.value)


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_full_disk_is_one_line_and_leaves_nothing(
    store: FeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(InputError, match=r"cannot write features .No space left on device"):
        compute(store, DIGESTS)
    assert not [path for path in store.root.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("digests", "arrays"),
    [(["a"], {"x": np.zeros((2, 3))}), (["a"], {"x": np.zeros(())}), ([], {}), (["a"], {})],
)
def test_rows_must_match_digests(
    store: FeatureStore, digests: list[str], arrays: dict[str, NDArray[np.float64]]
) -> None:
    with pytest.raises(ValueError, match=r"digests|at least one row"):
        store.add("head", digests, arrays)


@reads
def test_two_encoders_under_one_fingerprint_are_noticed(store: FeatureStore, read: Read) -> None:
    store.add("block 7", ["a"], {"x": np.zeros((1, 3), dtype=np.float32)})
    store.add("block 7", ["b"], {"x": np.zeros((1, 4), dtype=np.float32)})
    with pytest.raises(ValueError, match="share the fingerprint f0"):
        read(store, ["a", "b"])


def test_the_cache_directory_is_configured_or_the_users(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CLIP_SEARCH_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root(None) == tmp_path / "clip-adaptation-search"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root(None) == Path.home() / ".cache" / "clip-adaptation-search"
    monkeypatch.setenv("CLIP_SEARCH_CACHE", str(tmp_path / "chosen"))
    assert cache_root(None) == tmp_path / "chosen"
    assert cache_root(tmp_path / "configured") == tmp_path / "configured"
