"""The names of the files and folders in a run's directory; `tables.py` names the tables."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

from records.cell import Cell
from yaml_files import read_yaml, text_of

LOCK = ".lock"
JOURNAL = "events.jsonl"
EXPERIMENT = "experiment.yaml"
BEST_CONFIGS = "best_configs.yaml"
STUDIES = "optuna.journal"
SUMMARY = "accuracy_table.md"
PLOT = "accuracy.png"
PAGE = "report.html"
FILES = (LOCK, JOURNAL, EXPERIMENT, BEST_CONFIGS, STUDIES, SUMMARY, PLOT, PAGE)

CHECKPOINTS = "checkpoints"
HEAD = ".head"
FINAL_FITS = "final_fits"
WINNERS = "winners"
PICTURES = "pictures"
TENSORBOARD, MLRUNS, WANDB = "tensorboard", "mlruns", "wandb"  # of `loggers`
FOLDERS = (CHECKPOINTS, FINAL_FITS, WINNERS, PICTURES, TENSORBOARD, MLRUNS, WANDB)


def final_fit_path(run_dir: Path, cell: Cell, seed: int) -> Path:
    """Return the file of a final fit's result: `final_fits/10-llrd-seed0.json`."""
    return run_dir / FINAL_FITS / f"{cell.file_stem(f'seed{seed}')}.json"


def is_final_fit(path: Path) -> bool:
    """Whether a file is named like a final fit's result; other programs leave files, too."""
    partition, method = r"\d(?:[\d.e+-]*|\d*shot)", r"[A-Za-z0-9][\w-]*"
    return re.fullmatch(rf"{partition}-{method}-seed\d+\.json", path.name) is not None


def weights_path(run_dir: Path, cell: Cell, seed: int) -> Path:
    """Return the file of a final fit's weights: `winners/10-llrd-seed0.safetensors`."""
    return run_dir / WINNERS / f"{cell.file_stem(f'seed{seed}')}.safetensors"


def picture_path(run_dir: Path, split: str, key: str) -> Path:
    """Return the file of an image's thumbnail: `pictures/0f3a….webp`."""
    digest = hashlib.sha256(f"{split}/{key}".encode("utf-8", "surrogateescape")).hexdigest()
    return run_dir / PICTURES / f"{digest[:16]}.webp"


def checkpoint_name(cell: Cell, trial: int) -> str:
    """Name the file of a trial's checkpoint, in the folder of checkpoints: `10-llrd-3.pt`."""
    return f"{cell.file_stem(trial)}.pt"


def probe_head_name(digest: str) -> str:
    """Name the file of a probe's head, in the same folder, by a digest of what it follows from."""
    return f"{digest[:16]}{HEAD}"


def is_probe_head(name: str) -> bool:
    """Whether a file of the folder of checkpoints is named like a probe's head."""
    return name.endswith(HEAD) and not name.startswith(".")


def recorded(run_dir: Path) -> dict[str, Any]:
    """Read a run's `experiment.yaml` as it stands; empty if there is none, or it holds no keys."""
    path = run_dir / EXPERIMENT
    tree = read_yaml(text_of(path), str(path)) if path.is_file() else None
    return tree if isinstance(tree, dict) else {}


def encoders_in(run_dir: Path) -> list[str]:
    """Return the names of the encoders of a run's experiment; none where it has one encoder."""
    models = recorded(run_dir).get("models")
    return [*models] if isinstance(models, dict) else []
