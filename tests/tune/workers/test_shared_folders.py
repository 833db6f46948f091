"""Folders are shared where a machine reads what another has just written there."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from data import FileSource
from errors import InputError
from tests.object_store import object_store
from tune.machines import shared_folders
from tune.storage.storage import Storage
from tune.workers import survey as survey_module
from tune.workers.shared_folders import Mark, SharedFolder, marked
from tune.workers.survey import survey


def folder(path: Path, key: str = "--out") -> SharedFolder:
    return SharedFolder(Storage.at(path), key, "the trials' checkpoints")


def test_a_mark_is_seen_where_it_lies_and_goes(tmp_path: Path) -> None:
    with marked([folder(tmp_path / "not" / "there yet"), folder(tmp_path)]) as marks:
        assert [mark.seen() for mark in marks] == [True, True]
        assert len(list(tmp_path.iterdir())) == 2  # it makes no folder
    assert list(tmp_path.iterdir()) == []
    assert not any(mark.seen() for mark in marks)


def test_a_file_that_another_run_left_is_no_mark(tmp_path: Path) -> None:
    with marked([folder(tmp_path)]) as (mark,):
        (tmp_path / mark.name).write_text("other")
        assert not mark.seen()


def test_a_mark_in_an_object_store_is_seen_and_goes() -> None:
    with object_store("marks") as bucket:
        storage = Storage.at(bucket) / "small"
        with marked([SharedFolder(storage, "--storage", "checkpoints")]) as (mark,):
            assert mark.seen()
        assert storage.listing() == {}


def test_a_folder_that_takes_no_file_has_no_mark(tmp_path: Path) -> None:
    with marked([folder(Path("/proc/none"))]) as marks:
        assert marks == ()


def test_machines_that_do_not_see_a_folder_are_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head runs no trial, so that it need not see them."""
    (tmp_path / "a.jpg").touch()
    nodes = {name: {"NodeManagerAddress": f"10.0.0.{name}"} for name in "123"}
    cluster: Any = type("Cluster", (), {"grows": True, "slots_at": {"2": 1, "3": 1}})()
    monkeypatch.setattr(survey_module, "alive", lambda: nodes)
    blind = {"1": (), "2": ("--out", "features.cache"), "3": ("features.cache",)}

    def ask(
        found: Any, task: Any, source: Any, keys: Any, marks: Sequence[Mark], local: None
    ) -> Any:
        answer = survey_module._look(source, keys, tuple(marks))
        assert answer.blind == ()
        return {
            node: answer._replace(
                blind=tuple(i for i, mark in enumerate(marks) if mark.folder.key in blind[node])
            )
            for node in found
        }

    monkeypatch.setattr(survey_module, "ask", ask)
    shared = [folder(tmp_path / "runs"), folder(tmp_path / "cache", "features.cache")]
    with marked(shared) as marks:
        found = survey(cluster, FileSource(tmp_path), ["a.jpg"], marks)
    with pytest.raises(InputError) as told:
        found.check("folder:photos")
    assert str(told.value) == (
        f"--out: 10.0.0.2 cannot read what this machine writes to {tmp_path}/runs; every machine "
        "of the cluster needs the trials' checkpoints: name a folder that all share at the same "
        f"path; features.cache: 10.0.0.2, 10.0.0.3 cannot read what this machine writes to "
        f"{tmp_path}/cache; every machine of the cluster needs the trials' checkpoints: name a "
        "folder that all share at the same path"
    )


@pytest.mark.parametrize(("nodes", "grows"), [(1, False), (1, True), (2, False)])
def test_several_machines_share_checkpoints_and_features(
    nodes: int, grows: bool, tmp_path: Path
) -> None:
    prepared: Any = SimpleNamespace(cache=tmp_path)
    cluster: Any = SimpleNamespace(nodes=nodes, grows=grows)
    own = folder(tmp_path / "runs")
    alone = nodes == 1 and not grows
    for mine, keys in ((own, ["--out", "features.cache"]), (None, ["features.cache"])):
        found = shared_folders(prepared, cluster, mine)
        assert [each.key for each in found] == ([] if alone else keys)
