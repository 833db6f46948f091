from __future__ import annotations

import pytest
from open_clip.zero_shot_metadata import SIMPLE_IMAGENET_TEMPLATES
from pydantic import ValidationError

from data import DataConfig
from data.config import CLIP_TEMPLATES


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
        ({"partitions": []}, "both empty; allowed"),
        ({"shots": [4, 1]}, "shots must be increasing numbers of images of each class; 1 follows"),
        ({"shots": [0]}, "greater than or equal to 1"),
        ({"partitions": [0, 10]}, "not 0"),
        ({"partitions": [10, 101]}, "not 101"),
        ({"partitions": [float("nan")]}, "a finite number"),
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
        ({"validation": "half"}, "should be 'full' or 'matched'"),
        ({"templates": []}, "none given"),
        ({"templates": ["a photo"]}, "not 'a photo'"),
        ({"templates": ["a {} on a {}"]}, "not 'a {} on a {}'"),
        ({"templates": ["a {name}"]}, "not 'a {name}'"),
        ({"templates": ["{} {0}"]}, "not '{} {0}'"),
        ({"templates": ["{{}}"]}, "not '{{}}'"),
        ({"extra_tests": {"a b": {"source": "folder:x"}}}, "'a b': letters, digits, _ and - only"),
        ({"extra_tests": {"": {"source": "folder:x"}}}, "'': letters, digits"),
        ({"extra_tests": {"Test": {"source": "folder:x"}}}, "'Test' names a split"),
        (
            {"extra_tests": {"a": {"source": "photos"}}},
            "extra_tests.a.source\n  Value error, unknown",
        ),
        ({"extra_tests": {"a": {"source": "digits", "root": "/"}}}, "root is for csv:"),
        ({"extra_tests": {"a": {"source": "folder:x", "partitions": [1]}}}, "Extra inputs"),
    ],
)
def test_bad_settings_are_refused_with_their_rule(
    settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError) as error:
        DataConfig.model_validate({"source": "digits", **settings})
    assert message in str(error.value)


def test_default_templates_are_those_of_clip() -> None:
    assert tuple(template("cat") for template in SIMPLE_IMAGENET_TEMPLATES) == tuple(
        template.format("cat") for template in CLIP_TEMPLATES
    )
    assert DataConfig(source="digits", templates=CLIP_TEMPLATES) == DataConfig(source="digits")


def test_plain_values_give_the_same_config() -> None:
    config = DataConfig.model_validate(
        {
            "source": "folder:photos",
            "validation": "matched",
            "class_names": "names.yaml",
            "templates": ["a {}"],
            "extra_tests": {"street-2": {"source": "csv:x.csv", "columns": {"label": "kind"}}},
        }
    )
    assert DataConfig.model_validate(config.model_dump(mode="json")) == config


def test_configs_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        DataConfig(source="digits").source = "folder:x"
