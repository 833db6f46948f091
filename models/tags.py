"""What open_clip's tags tell about a model: its activation and its preprocessing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import open_clip
from open_clip.transform import PreprocessCfg

PREPROCESSING = ("mean", "std", "interpolation", "resize_mode")


def options_of_tag(name: str, tag: str) -> dict[str, Any]:
    """Return what open_clip builds a model with for the weights of one of its tags."""
    # open_clip only warns where a tag's weights were trained with the other GELU.
    return {"force_quick_gelu": _quick(open_clip.get_pretrained_cfg(name, tag))}


def options_of_file(name: str) -> tuple[dict[str, Any], list[str]]:
    """Return the same for weights from a file, and what had to be assumed, in lines.

    A file does not say how its weights were trained. What all tags of the model agree on holds for
    it too; where they disagree, the model is as open_clip's own configuration says.
    """
    tags = {
        tag: open_clip.get_pretrained_cfg(name, tag)
        for tag in open_clip.list_pretrained_tags_by_model(name)
    }
    subject = f"{name} with weights from a file"
    if not tags:
        return {}, [
            f"{subject} gets CLIP's own preprocessing, as open_clip has no weights of it to go by; "
            "for another choose local-dir: with a preprocess_cfg"
        ]
    options: dict[str, Any] = {}
    assumed = []
    quick = [tag for tag, config in tags.items() if _quick(config)]
    if quick and not _quick(open_clip.get_model_config(name) or {}):
        options["force_quick_gelu"] = len(quick) == len(tags)
        if options["force_quick_gelu"]:
            assumed.append(f"{subject} gets QuickGELU, as all its tags ({', '.join(quick)}) have")
        else:
            assumed.append(
                f"{subject} gets GELU; if they come from {', '.join(quick)}, which have QuickGELU, "
                f"choose model.name: {name}-quickgelu"
            )
    usual = _preprocessing(asdict(PreprocessCfg()))
    if len({_preprocessing(config) for config in tags.values()}) == 1:
        options |= {f"image_{key}": next(iter(tags.values())).get(key) for key in PREPROCESSING}
    else:
        others = [tag for tag, config in tags.items() if _preprocessing(config) != usual]
        assumed.append(
            f"{subject} gets CLIP's own preprocessing; if they come from {', '.join(others)}, "
            "which have another, choose local-dir: with a preprocess_cfg"
        )
    return options, assumed


def _quick(config: dict[str, Any]) -> bool:
    return bool(config.get("quick_gelu", False))


def _preprocessing(config: dict[str, Any]) -> str:
    return json.dumps([config.get(key) for key in PREPROCESSING])
