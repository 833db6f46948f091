"""Whether the places that an experiment names can be used, as far as that is known at once.

Torch and Ray take seconds to import; nothing here needs them.
"""

from __future__ import annotations

from pathlib import Path

from data import check_sources
from files import check_folder
from models.config import local_folder
from records.journal import refuse_held
from search_spaces import Experiment
from tune.storage.mirror import place_of_copy


def check_places(experiment: Experiment, folder: Path, storage: str | None, fresh: bool) -> None:
    """Check where a run reads from and writes to: its `folder`, its copy, images and encoder.

    Raises:
        InputError: a place is missing or cannot be written to, or a `fresh` run would begin in the
            folder of another.
    """
    if fresh:
        refuse_held(folder)
    check_folder(folder, "--out")
    check_sources(experiment.data)
    local_folder(experiment.model.name)
    if storage:
        place_of_copy(folder, storage)
