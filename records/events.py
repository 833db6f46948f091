"""The events of a run's journal, one class for each.

`docs/events.md` is made from the docstrings here: `python -m records.events_document`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from records.cell import Cell
from records.encoding import check_share

Kind = Literal["zero_shot", "probe", "tuned"]
End = Literal["completed", "stopped", "diverged", "failed", "cut"]
"""How a trial ends."""
LOST: tuple[End, ...] = ("failed", "diverged")
"""The ends of a trial that went wrong."""


@dataclass(frozen=True)
class Event:
    """Something that happened in a run; the journal fills in the time when it writes the event."""

    name: ClassVar[str]  # as the journal spells it
    kinds: ClassVar[dict[str, type[Event]]] = {}  # by name
    time: float = field(default=0.0, kw_only=True, compare=False)

    def __init_subclass__(cls, name: str | None = None) -> None:
        if name is not None:
            cls.name = name
            Event.kinds[name] = cls


@dataclass(frozen=True)
class RunStarted(Event, name="run_started"):
    """The driver has started the run, or resumed it.

    Attributes:
        resumed: whether the journal held events before.
        seed: of the search.
        identity: `run`, drawn at the run's start, and digests of `model`, `data` and, if it is
            used, the `text` tower.
        versions: of Python, libraries and this project, with a digest of its source.
    """

    resumed: bool
    seed: int
    identity: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Footnote(Event, name="footnote"):
    """A note on the data, for the footer of the table.

    Attributes:
        text: the note.
    """

    text: str


@dataclass(frozen=True)
class NodeView:
    """What one machine of the cluster says of itself."""

    id: str
    address: str
    sees_images: bool
    code: str
    gpu_bytes: int | None


@dataclass(frozen=True)
class Nodes(Event, name="nodes"):
    """The machines of the cluster were surveyed.

    Attributes:
        nodes: of each its `id`, `address`, whether it `sees_images`, folder of `code`, and memory
            of its smallest GPU (`gpu_bytes`).
    """

    nodes: tuple[NodeView, ...]


@dataclass(frozen=True)
class PrecisionChosen(Event, name="precision"):
    """The precision of matrix products is known.

    Attributes:
        precision: `float32`, `bfloat16` or `float16`.
    """

    precision: str


@dataclass(frozen=True)
class EncoderSized(Event, name="encoder"):
    """With the precision: what the encoder takes to run.

    Attributes:
        parameters: their number in the encoder.
        flops: operations of the encoder's forward pass on one image.
    """

    parameters: int
    flops: int


@dataclass(frozen=True)
class EncoderTimed(Event, name="encoder_speed"):
    """With the features: how fast the encoder is here, by this run or by one that filled the cache.

    Attributes:
        images_per_second: of one process, from pixels to embeddings, in a job's fastest batch;
            median over jobs.
        device: a GPU, the share of one, or threads of a CPU.
    """

    images_per_second: float
    device: str


@dataclass(frozen=True)
class ImagesRead(Event, name="images"):
    """Features are there: of what fits draw, then of test, then of each extra test.

    Attributes:
        images: by draw (`10/seed0`) or test set, a SHA-256 of the contents of its readable images,
            in their order; a draw's include validation.
    """

    images: dict[str, str]


@dataclass(frozen=True)
class StageEnded(Event, name="stage"):
    """A stage of the run has ended.

    Attributes:
        stage: `features`, `search`, `test features`, `final fits` or `label audit`.
        seconds: wall-clock.
    """

    stage: str
    seconds: float


@dataclass(frozen=True)
class TrialEvent(Event):
    """Something that happened to a trial.

    Attributes:
        cell: partition and method: `10/llrd` is of 10 percent, `4shot/llrd` of 4 images a class.
        trial: its number in the cell, from 0.
    """

    cell: Cell
    trial: int


@dataclass(frozen=True)
class TrialStarted(TrialEvent, name="trial_started"):
    """A trial was proposed, or goes on after a pause or a resume.

    Attributes:
        origin: who proposed it: `default`, `sampler` or `partition 10`.
        config: its configuration, as in `best_configs.yaml`; a list is a bank.
        probe: configuration of the probe whose head it starts from, or `null`.
    """

    origin: str
    config: dict[str, Any]
    probe: dict[str, Any] | None


@dataclass(frozen=True)
class TrialReport:
    """How good a trial is at a milestone: what travels from the trial to the search.

    Attributes:
        milestone: samples at which the evaluation was due.
        taken_up: milestone at which the process that reports took the trial up; 0 from its start.
        samples: training samples seen.
        steps: optimiser steps.
        train_loss: mean loss in training, in nats.
        val_accuracy: the metric on validation images, 0 to 1.
        val_loss: mean cross-entropy on validation images, in nats.
        score: what trials are ranked by: `val_accuracy`, ties by likelihood.
        prospect: by which rungs compare: there the score of the weights half-way back to their
            start, and elsewhere `score`.
        weight_distance: how far the encoder's trained weights have moved, relative to their start.
        diverged: whether a loss was not finite.
        seconds: for which the trial has held its slot.
        node: the first 8 digits of Ray's id of the node.
        chosen: settings of the best head if the trial trains a bank of heads, else empty.
    """

    milestone: int
    taken_up: int
    samples: int
    steps: int
    train_loss: float
    val_accuracy: float
    val_loss: float
    score: float
    prospect: float
    weight_distance: float
    diverged: bool
    seconds: float
    node: str
    chosen: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not math.isnan(self.val_accuracy):  # as a fit that diverged may have it
            check_share("val_accuracy", self.val_accuracy)


@dataclass(frozen=True)
class TrialReported(TrialEvent, name="trial_report"):
    """A trial was evaluated at a milestone.

    Attributes:
        report: what it found there.
    """

    report: TrialReport


@dataclass(frozen=True)
class TrialPromoted(TrialEvent, name="trial_promoted"):
    """A trial goes on beyond a rung.

    Attributes:
        milestone: of that rung.
    """

    milestone: int


@dataclass(frozen=True)
class TrialPaused(TrialEvent, name="trial_paused"):
    """A trial waits at a rung and has freed its device.

    Attributes:
        milestone: of that rung.
    """

    milestone: int


@dataclass(frozen=True)
class TrialEnded(TrialEvent, name="trial_ended"):
    """A trial has ended.

    Attributes:
        status: `completed`, `stopped` (by a rung), `diverged`, `failed` (its process died) or `cut`
            (the search was closed).
        reason: why, in words; empty where there is nothing to say.
    """

    status: End
    reason: str


@dataclass(frozen=True)
class SearchClosed(Event, name="search_closed"):
    """The search ends early.

    Attributes:
        reason: why, in words.
    """

    reason: str


@dataclass(frozen=True)
class Winner(Event, name="winner"):
    """The best trial of a cell by its validation score, once the search is over.

    Attributes:
        cell: partition and method.
        trial: its number in the cell.
        val_accuracy: the metric on validation images, 0 to 1.
        samples: training samples seen at its best report.
        kind: what it trains: `zero_shot` nothing, `probe` a head alone, `tuned` a part of the
            encoder.
        config: its configuration; of a bank, with the best head alone.
        tried: its configuration as the trial had it; of a bank, with all heads.
        probe: configuration of the probe whose head it started from, or `null`.
    """

    cell: Cell
    trial: int
    val_accuracy: float
    samples: int
    kind: Kind
    config: dict[str, Any]
    tried: dict[str, Any]
    probe: dict[str, Any] | None

    def __post_init__(self) -> None:
        check_share("val_accuracy", self.val_accuracy)


@dataclass(frozen=True)
class FinalFitFailed(Event, name="final_fit_failed"):
    """A final fit failed; one that succeeds is a file in `final_fits/`.

    Attributes:
        cell: partition and method.
        seed: of the fit.
        reason: why, in words.
    """

    cell: Cell
    seed: int
    reason: str


@dataclass(frozen=True)
class RunFinished(Event, name="run_finished"):
    """The run is over.

    Attributes:
        seconds: wall-clock, since it was started or resumed.
    """

    seconds: float
