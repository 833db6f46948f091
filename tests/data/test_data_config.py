from __future__ import annotations

import pytest
from pydantic import ValidationError

from data import DataConfig


@pytest.mark.parametrize(
    "source", ["digits", "folder:photos", "csv:/a/b:c.csv", "torchvision:Food101"]
)
def test_known_sources_are_accepted(source: str) -> None:
    config = DataConfig(source=source)
    assert ":".join(filter(None, (config.kind, config.place))) == source


def test_default_partitions_are_one_then_every_tenth_percent() -> None:
    assert DataConfig(source="digits").partitions == (1, *range(10, 101, 10))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "digits:8"}, "unknown source 'digits:8'; allowed: digits, folder:PATH"),
        ({"source": "folder:"}, "unknown source 'folder:'"),
        ({"source": "photos"}, "unknown source 'photos'"),
        ({"partitions": []}, "none given"),
        ({"partitions": [0, 10]}, "not 0"),
        ({"partitions": [10, 101]}, "not 101"),
        ({"partitions": [float("nan")]}, "not nan"),
        ({"partitions": [10, 10]}, "10 follows 10"),
        ({"partitions": [20, 10]}, "10 follows 20"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "must stay below 1, not 1"),
        ({"val_fraction": 0}, "greater than 0"),
        ({"test_fraction": 1}, "less than 1"),
        ({"max_unreadable": 1.5}, "less than or equal to 1"),
        ({"split_seed": -1}, "greater than or equal to 0"),
        ({"root": "/tmp"}, "root is for csv: and torchvision: sources"),
        ({"columns": {"label": "path"}}, "four different names"),
        ({"columns": {"lable": "x"}}, "Extra inputs are not permitted"),
        ({"parts": [1]}, "Extra inputs are not permitted"),
    ],
)
def test_bad_settings_are_refused_with_their_rule(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError) as error:
        DataConfig.model_validate({"source": "digits", **settings})
    assert message in str(error.value)


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DataConfig(source="digits").source = "folder:x"
