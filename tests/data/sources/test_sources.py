"""The registry: what it loads, and that one file adds a source."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from data import DataConfig, SourceConfig, load_dataset
from errors import InputError
from tests.data.sources.toy import register_toy
from tests.data.walks import partition_indices


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    register_toy(tmp_path, monkeypatch)


@pytest.mark.usefixtures("toy")
def test_a_source_is_one_file_and_a_name() -> None:
    dataset = load_dataset(DataConfig(source="shapes:40", test_fraction=0.25, val_fraction=0.25))
    assert dataset.classes == ("square", "stripe")
    test = dataset.tests["test"].split
    assert [len(split) for split in (dataset.train, dataset.val, test)] == [20, 10, 10]
    rows = partition_indices(dataset.train.labels, 10, seed=0)
    some = dataset.train.select(rows)
    assert sorted(some.labels.tolist()) == [0, 1]
    for key, label in zip(some.keys, some.labels, strict=True):
        image = dataset.source.image(key)
        assert image.mode == "RGB"
        stripe = image.getpixel((0, 0)) == image.getpixel((7, 0))
        assert dataset.classes[label] == ("stripe" if stripe else "square")
    assert len({dataset.source.digest(key) for key in dataset.train.keys}) == 20


@pytest.mark.usefixtures("toy")
def test_the_configuration_knows_a_new_source() -> None:
    with pytest.raises(ValueError, match="or shapes:COUNT"):
        SourceConfig(source="shapes")
    with pytest.raises(ValueError, match="root is for csv: and torchvision: sources"):
        SourceConfig(source="shapes:40", root=Path("/"))
    with pytest.raises(InputError, match=r"^data\.source: COUNT is a number, not 'many'"):
        load_dataset(DataConfig(source="shapes:many"))
    with pytest.raises(InputError, match=r"again\.source: shapes:40 is data\.source itself"):
        load_dataset(
            DataConfig(source="shapes:40", extra_tests={"again": SourceConfig(source="shapes:40")})
        )


def test_the_registry_loads_no_library_that_only_one_source_needs() -> None:
    heavy = ("torch", "torchvision", "ray", "pandas", "sklearn", "models")
    script = f"import sys, data; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
