"""What is asked of the devices of a machine."""

from __future__ import annotations

import pickle
import shutil
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import torch

from data import FileSource
from data.features import room_for_copies
from data.features.local_copies import RESERVE
from errors import InputError
from models.config import PrecisionName
from models.device import CONTEXT, available_device
from records import NodeView
from tune.storage.storage import Storage
from tune.workers import survey as survey_module
from tune.workers.machines import UnfitMachineError
from tune.workers.shared_folders import SharedFolder, marked
from tune.workers.survey import Admission, Devices, Survey, _answer, survey


def told(name: PrecisionName, **options: Any) -> str:
    answer = _answer(name, **options)
    assert isinstance(answer, str)
    assert "\n" not in answer
    return answer


@pytest.fixture
def in_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray.util, "get_node_ip_address", lambda: "10.0.0.7")


def test_a_gpu_that_torch_cannot_use_is_told_with_a_way_out(in_ray: None) -> None:
    """It would train on the CPU without a word, and hold the GPU."""
    line = told("auto")
    assert line.startswith(
        f"resources: Ray gives out a GPU that torch cannot use: 10.0.0.7, torch {torch.__version__}"
    )
    assert "`make search TORCH_INDEX=URL`" in line
    assert "CUDA_VISIBLE_DEVICES= before the command runs it on CPUs" in line


def test_a_precision_that_a_gpu_would_emulate_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey_module, "available_device", lambda: "cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert told("bfloat16", trouble=str).startswith("model.precision: bfloat16")


def test_torch_says_how_large_a_gpu_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a card in slices the driver's tool tells of the whole, and of a display card too."""
    assert _answer("bfloat16", trouble=str) == ("bfloat16", 0)
    card = type("Card", (), {"total_memory": 10 << 30})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    assert _answer("float16", trouble=str) == ("float16", 10 << 30)
    nodes = [NodeView(name, f"10.0.0.{name}", True, "code", 80 << 30) for name in "12"]
    found = Devices("float16", {"2": 10 << 30}).sized(nodes)
    assert [node.gpu_bytes for node in found] == [80 << 30, 10 << 30]


@pytest.mark.parametrize("slot", [{"CPU": 1.0}, {"CPU": 1.0, "GPU": 1.0}])
def test_a_gpu_for_one_process_serves_trials_that_have_it_alone(slot: dict[str, float]) -> None:
    Survey([], {}, ["10.0.0.1"]).check_share(slot)


def test_a_gpu_for_one_process_is_not_shared() -> None:
    slot = {"CPU": 1.0, "GPU": 0.25}
    Survey([], {}).check_share(slot)
    with pytest.raises(InputError) as error:
        Survey([], {}, ["10.0.0.1"]).check_share(slot)
    assert str(error.value) == (
        "resources.gpus_per_trial: 0.25, but the GPUs of 10.0.0.1 serve one process at a time "
        "(compute mode Exclusive_Process); allowed: 1, or start NVIDIA's MPS there"
    )


@pytest.mark.parametrize(("share", "allowed"), [(0.5, 0.5 - 1 / 24), (0.05, 0.025)])
def test_a_process_takes_its_share_of_a_gpu(
    share: float, allowed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []
    card = type("Card", (), {"total_memory": 24 * CONTEXT})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: card)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", limits.append)
    assert available_device() == "cuda"
    assert limits == []
    assert available_device(share) == "cuda"
    assert limits == [pytest.approx(allowed)]


@pytest.fixture
def one_machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A cluster of this machine alone."""
    monkeypatch.setattr(survey_module, "alive", lambda: {"n": {"NodeManagerAddress": "10.0.0.1"}})
    return type("Cluster", (), {"grows": False, "slots_at": {"n": 1}})()


def test_a_machine_sees_images_though_the_first_are_gone(tmp_path: Path, one_machine: Any) -> None:
    keys = [f"{n}.jpg" for n in range(40)]
    for key in keys[20:]:
        (tmp_path / key).touch()
    found = survey(one_machine, FileSource(tmp_path), keys)
    assert [node.sees_images for node in found.nodes] == [True]
    found.check("folder:photos")


def test_a_machine_that_sees_none_is_refused_with_an_example(
    tmp_path: Path, one_machine: Any
) -> None:
    found = survey(one_machine, FileSource(tmp_path), ["cat/a.jpg"])
    assert [node.sees_images for node in found.nodes] == [False]
    with pytest.raises(InputError) as error:
        found.check("csv:photos.csv")
    assert str(error.value) == (
        "data.source: csv:photos.csv: 10.0.0.1 can read no image, such as cat/a.jpg: No such file "
        "or directory; every machine of the cluster needs them at the same path"
    )


def test_a_disk_that_is_too_small_for_copies_is_told(
    tmp_path: Path, one_machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jpg").touch()
    source, fast = FileSource(tmp_path), tmp_path / "fast"
    asked = partial(room_for_copies, fast, ("f0",))
    assert survey(one_machine, source, ["a.jpg"]).rooms == {}
    room = survey(one_machine, source, ["a.jpg"], room=asked).rooms["10.0.0.1"]
    assert room == pytest.approx(shutil.disk_usage(tmp_path).free - RESERVE, rel=0.01)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=RESERVE + 5_000_000))
    found = survey(one_machine, source, ["a.jpg"], room=asked)
    assert [*found.short_of_room(fast, 5_000_000)] == []
    assert [*found.short_of_room(fast, 7_000_000)] == [
        f"features.local: {fast} at 10.0.0.1 takes 5.0 MB of the 7.0 MB that are read from disk; "
        "the rest is read from features.cache"
    ]
    assert not fast.exists()


@pytest.fixture
def late(monkeypatch: pytest.MonkeyPatch, in_ray: None) -> None:
    """This process is on a machine that joined late, and has a GPU."""
    context = SimpleNamespace(get_node_id=lambda: "late")
    monkeypatch.setattr(ray, "get_runtime_context", lambda: context)
    monkeypatch.setattr(survey_module, "given_share", lambda: 1.0)


def refusal(folder: Path, marks: Any, *known: str) -> str:
    """Why a machine that comes late is found unfit; nothing if it is not."""
    admission = Admission(frozenset(known), FileSource(folder), ("a.jpg",), marks, "bfloat16")
    try:
        admission.check()
    except UnfitMachineError as error:
        again = UnfitMachineError.told_in(f"  File b\nx.UnfitMachineError: {error}\nmore")
        return f"{pickle.loads(pickle.dumps(error)).node}: {again and again.line}"
    return ""


@pytest.mark.usefixtures("late")
def test_a_machine_that_comes_late_is_asked_what_the_first_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(survey_module, "_answer", lambda name: (name, 80 << 30))
    shared = SharedFolder(Storage.at(tmp_path / "runs"), "--out", "checkpoints")
    with marked([shared]) as marks:
        line = "late: 10.0.0.7 has joined and gets no work: it can read no image, such as a.jpg: No"
        assert refusal(tmp_path, marks).startswith(line)
        assert refusal(tmp_path, marks, "first", "late") == ""  # it was asked at the start
        (tmp_path / "a.jpg").touch()
        assert refusal(tmp_path, marks) == ""
        monkeypatch.setattr(survey_module, "_answer", lambda _: "model.precision: bfloat16 is")
        assert refusal(tmp_path, marks).endswith("no work: model.precision: bfloat16 is")
    assert refusal(tmp_path, marks).endswith(f"no work: it does not see {tmp_path}/runs")
