"""A search as a user asks for it: what the command line and `tune.run_search` have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

from rich.console import Console

from data import Dataset, load_dataset
from errors import InputError
from models.config import HUB, LOCAL_DIR, TIMM
from records import JOURNAL, encoders_in
from search_spaces import Experiment, load_experiment
from search_spaces.extending import READY
from terminal import say
from tune.photos import as_source, described, run_name, space_for, with_fitting_amounts
from tune.places import check_places
from tune.storage.storage import inside
from tune.workers.ray_environment import set_ray_environment

if TYPE_CHECKING:
    from report import Summary
    from tune.run import Options

DEFAULT = READY / "digits.yaml"
QUICK = 15 * 60.0
"""The seconds that a quick search takes, unless its last final fits need more."""


@dataclass(frozen=True)
class Request:
    """What is to be searched, where and how; the options of `run_search.py` have the same names.

    Attributes:
        space: path of a YAML file, or a source of images such as `folder:PATH`.
        quick: whether a first answer is enough.
        model: keys of the search space that name the encoder, such as `model.name`, or several.
        settings: `key.path=value` strings, values in YAML.
        partitions, shots: the table's rows, in percent and in images of each class.
        methods: the only ones to keep.
        out: folder of all runs.
        storage: path or URL of a folder that keeps a copy of the run.
        resume: continue or extend the run of this name; without one, start it.
        time_budget: seconds for everything.
        address: of a running Ray cluster.
        dry_run: nothing is begun, so that a run may be there already.
    """

    space: str = str(DEFAULT)
    quick: bool = False
    model: Mapping[str, Any] = field(default_factory=dict)
    settings: Sequence[str] = ()
    partitions: Sequence[float] | None = None
    shots: Sequence[float] | None = None
    methods: Sequence[str] = ()
    trials: int | None = None
    seed: int | None = None
    name: str | None = None
    out: Path = Path("results")
    storage: str | None = None
    resume: bool = False
    time_budget: float | None = None
    address: str | None = None
    dry_run: bool = False

    def options(self) -> Options:
        """Return what the run takes beside the experiment; it imports Ray and torch."""
        from tune.run import Options

        return Options(
            out=self.out,
            resume=self.resume,
            address=self.address,
            time_budget=self.time_budget or (QUICK if self.quick else None),
            storage=self.storage,
        )

    def names_amounts(self) -> bool:
        """Whether it names the rows of the table."""
        return bool(self.names_percentages() or "data.shots" in self._set or self.shots)

    def names_percentages(self) -> bool:
        """Whether it names the rows that are percentages."""
        return bool({"data", "data.partitions"} & self._set or self.partitions)

    @property
    def _set(self) -> set[str]:
        return {setting.partition("=")[0].strip() for setting in self.settings}


def search(
    request: Request, status: Console, guard: AbstractContextManager[None] | None = None
) -> Summary:
    """Search, measure the winners and report, in the folder `request.out`.

    Args:
        request: what to search.
        status: where the run says what it does.
        guard: entered once all that can be known at once is checked, and left at the end.

    Raises:
        InputError: the request is wrong, or the disk is full.
    """
    experiment, dataset = checked(request, status)
    options = replace(request.options(), dataset=dataset)
    from disk import full_disk_reported
    from tune.encoders import run_encoders  # Ray and torch, which take seconds to import
    from tune.run import run

    begin = run_encoders if experiment.models else run
    with full_disk_reported(request.out / experiment.name), guard or nullcontext():
        return begin(experiment, options, status)


def plan(request: Request, status: Console, console: Console) -> None:
    """Print what a search would do, and what it would take."""
    experiment, dataset = checked(request, status)
    from tune.encoders import plan_encoders
    from tune.run import dry_run

    show = plan_encoders if experiment.models else dry_run
    show(experiment, replace(request.options(), dataset=dataset), console)


def checked(request: Request, status: Console) -> tuple[Experiment, Dataset]:
    """Make the experiment that is asked for, and check what can be known without Ray and torch.

    Its images are listed, as that finds most mistakes.

    Raises:
        InputError: the request is wrong.
    """
    experiment, source = _experiment(request)
    folder, fresh = request.out / experiment.name, not (request.resume or request.dry_run)
    _check_kind(experiment, folder, request)
    for name, encoder in experiment.models.items() or [("", experiment.model)]:
        one = experiment.model_copy(update={"model": encoder})
        storage = request.storage
        if storage and name:
            storage = inside(storage, experiment.name)
        check_places(one, folder / name, storage, fresh)
    dataset = load_dataset(experiment.data)
    if (source or request.quick) and not request.names_amounts():
        experiment = with_fitting_amounts(experiment, dataset, request.quick)
    for line in described(experiment, folder) if source else ():
        say(status, line)
    set_ray_environment(loopback=request.address is None)
    return experiment, dataset


def _check_kind(experiment: Experiment, folder: Path, request: Request) -> None:
    """Raise InputError where a run of one encoder meets the folder of several, or the other way.

    Also where a resumed run lacks an encoder that the folder has.
    """
    known = [
        name for name in encoders_in(folder) if (folder / name / JOURNAL).is_file()
    ]  # that have begun
    if bool(known) != bool(experiment.models) and (known or (folder / JOURNAL).is_file()):
        held = "several encoders" if known else "one encoder"
        raise InputError(f"{folder} already holds a run of {held}; --name starts another")
    if request.resume and (lost := [name for name in known if name not in experiment.models]):
        raise InputError(
            f"--resume: {folder} also has the encoder {lost[0]}; name it, or --name starts another"
        )


def _experiment(request: Request) -> tuple[Experiment, str | None]:
    """Read the experiment; beside it the source of images, if that was given and no file."""
    overrides: dict[str, Any] = {
        "data.partitions": request.partitions,
        "data.shots": request.shots,
        "seed": request.seed,
        "name": request.name,
    }
    source = as_source(request.space)
    if source and request.shots and not request.names_percentages():
        overrides["data.partitions"] = []  # these are the rows
    experiment = load_experiment(
        Path(request.space) if source is None else space_for(source),
        settings=request.settings,
        overrides={k: v for k, v in overrides.items() if v is not None} | dict(request.model),
        trials=request.trials,
        methods=request.methods,
        defaults={"data.source": source, "name": run_name(source)} if source else {},
        quick=request.quick,
    )
    return _anchored(experiment), source


def _anchored(experiment: Experiment) -> Experiment:
    """Name places by absolute paths: what a run writes is used from other folders too."""
    models = {name: model.anchored for name, model in experiment.models.items()}
    found = {"data": experiment.data.anchored, "model": experiment.model.anchored, "models": models}
    return experiment.model_copy(update=found)


def encoder_keys(text: str) -> dict[str, str | None]:
    """Read an encoder, NAME or NAME:PRETRAINED, as the keys of the search space that it sets.

    Names that say where the weights are, such as local-dir:FOLDER, have no tag; timm's is a part of
    the name, so that timm:NAME:FILE has a file alone.

    Raises:
        InputError: it is empty.
    """
    if not text.strip():
        raise InputError("it is empty; expected a model, as in ViT-B-32:openai")
    if text.startswith((LOCAL_DIR, HUB, f"{TIMM}{LOCAL_DIR}")):
        return {"model.name": text, "model.pretrained": None}
    kind = TIMM if text.startswith(TIMM) else ""
    name, colon, pretrained = text.removeprefix(kind).partition(":")
    if kind and not colon:  # its tag is a part of the name
        return {"model.name": text, "model.pretrained": None}
    found: dict[str, str | None] = {"model.name": f"{kind}{name}"}
    return found | {"model.pretrained": pretrained} if colon else found


def chosen_models(chosen: list[dict[str, str | None]]) -> dict[str, Any]:
    """Return the keys of the search space that one encoder sets, or several under names of theirs.

    Raises:
        InputError: two have the same name.
    """
    if len(chosen) < 2:
        return dict(chosen[0]) if chosen else {}
    models: dict[str, dict[str, str | None]] = {}
    for each in chosen:
        place = PurePath(str(each["model.name"]).rpartition(":")[2]).name
        tag = each.get("model.pretrained") or ""
        words = [place, PurePath(tag).stem]
        name = "-".join(re.findall(r"[A-Za-z0-9._]+", "-".join(words)))[:64].strip("._-")
        if not name or name in models:
            raise InputError(f"--model: two encoders are called {name!r}; name them in a YAML file")
        models[name] = {key.removeprefix("model."): value for key, value in each.items()}
    return {"models": models}
