"""Measure the bundled CLIP's zero-shot accuracy on the scanned digits, for its model card.

python -m pretraining.evaluate              # the training split, which the design may look at
python -m pretraining.evaluate --split test
"""

from __future__ import annotations

import argparse
from pathlib import Path

import open_clip
import torch

from data import load_dataset
from pretraining.train import FOLDER, zero_shot_accuracy
from search_spaces import load_experiment

SPACE = Path(__file__).resolve().parent.parent / "search_spaces" / "digits.yaml"


def zero_shot(split: str) -> tuple[float, int]:
    """Return the accuracy on a split of the default experiment's data, and its image count."""
    dataset = load_dataset(load_experiment(SPACE).data)
    model, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{FOLDER}")
    rows = getattr(dataset, split)
    images = torch.stack([preprocess(dataset.source.image(key)) for key in rows.keys])
    nouns = [f"digit {name}" for name in dataset.classes]
    return zero_shot_accuracy(model, images, torch.tensor(rows.labels), nouns), len(rows)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=("train", "val", "test"), default="train")
    accuracy, n = zero_shot(parser.parse_args().split)
    print(f"zero-shot: {100 * accuracy:.1f}% of {n} images")


if __name__ == "__main__":
    main()
