"""The events of a run's journal, one class for each; `docs/events.md` explains their fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from records.cell import Cell

Kind = Literal["zero_shot", "probe", "tuned"]


@dataclass(frozen=True)
class Event:
    """Something that happened in a run.

    Attributes:
        name: of this kind of event, as the journal spells it.
        kinds: every kind of event, by its name.
        time: seconds since 1970; the journal fills it in when it writes the event.
    """

    name: ClassVar[str]
    kinds: ClassVar[dict[str, type[Event]]] = {}
    time: float = field(default=0.0, kw_only=True, compare=False)

    def __init_subclass__(cls, name: str) -> None:
        cls.name = name
        Event.kinds[name] = cls


@dataclass(frozen=True)
class RunStarted(Event, name="run_started"):
    """The driver has started the run, or resumed it."""

    resumed: bool
    seed: int


@dataclass(frozen=True)
class Footnote(Event, name="footnote"):
    """A note on the data, for the footer of the table."""

    text: str


@dataclass(frozen=True)
class NodeView:
    """What one machine of the cluster says of itself.

    Attributes:
        id: its name in Ray.
        address: its IP address.
        sees_images: whether it can read any of a few images.
        code: the folder from which its workers import this project.
        gpu_bytes: memory of its smallest GPU, if it has any and can tell.
    """

    id: str
    address: str
    sees_images: bool
    code: str
    gpu_bytes: int | None


@dataclass(frozen=True)
class Nodes(Event, name="nodes"):
    """The machines of the cluster were surveyed."""

    nodes: tuple[NodeView, ...]


@dataclass(frozen=True)
class PrecisionChosen(Event, name="precision"):
    """The precision of matrix products is known."""

    precision: str


@dataclass(frozen=True)
class ImagesRead(Event, name="images"):
    """The features of some splits are there."""

    images: dict[str, str]


@dataclass(frozen=True)
class StageEnded(Event, name="stage"):
    """A stage of the run has ended."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class TrialStarted(Event, name="trial_started"):
    """A trial was proposed, or goes on after a pause or a resume."""

    cell: Cell
    trial: int
    origin: str
    config: dict[str, Any]
    probe: dict[str, Any] | None


@dataclass(frozen=True)
class TrialReport:
    """How good a trial is at a milestone: what travels from the trial to the search.

    Attributes:
        milestone: samples at which the evaluation was due.
        taken_up: milestone at which the reporting process took the trial up; 0 from its start.
        samples: training samples seen.
        steps: optimiser steps.
        train_loss, val_loss: mean cross-entropies, in nats.
        val_accuracy: 0 to 1.
        score: what trials are ranked by.
        prospect: what rungs compare.
        weight_distance: how far the encoder's trained weights have moved, relative to their norm.
        diverged: whether a loss was not finite.
        seconds: that the trial has held its slot for so far.
        node: the first 8 digits of the Ray id of the node.
        chosen: settings of the best head, where the trial trains a bank of heads.
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


@dataclass(frozen=True)
class TrialReported(Event, name="trial_report"):
    """A trial was evaluated at a milestone."""

    cell: Cell
    trial: int
    report: TrialReport


@dataclass(frozen=True)
class TrialPromoted(Event, name="trial_promoted"):
    """A trial goes on beyond a rung."""

    cell: Cell
    trial: int
    milestone: int


@dataclass(frozen=True)
class TrialPaused(Event, name="trial_paused"):
    """A trial waits at a rung and has freed its device."""

    cell: Cell
    trial: int
    milestone: int


@dataclass(frozen=True)
class TrialEnded(Event, name="trial_ended"):
    """A trial has ended."""

    cell: Cell
    trial: int
    status: str
    reason: str


@dataclass(frozen=True)
class SearchClosed(Event, name="search_closed"):
    """The search ends early."""

    reason: str


@dataclass(frozen=True)
class Winner(Event, name="winner"):
    """The best trial of a cell by its validation score, once the search is over.

    Attributes:
        samples: training samples that the trial had seen at its best report.
        kind: `zero_shot` trains nothing, `probe` a head alone, `tuned` a part of the encoder.
        config: the winning configuration; of a bank, the best head's.
        tried: the configuration as the trial had it; of a bank, all its heads.
        probe: configuration of the probe whose head the trial started from.
    """

    cell: Cell
    trial: int
    val_accuracy: float
    samples: int
    kind: Kind
    config: dict[str, Any]
    tried: dict[str, Any]
    probe: dict[str, Any] | None


@dataclass(frozen=True)
class FinalFitFailed(Event, name="final_fit_failed"):
    """A final fit failed."""

    cell: Cell
    seed: int
    reason: str


@dataclass(frozen=True)
class RunFinished(Event, name="run_finished"):
    """The run is over."""

    seconds: float


TrialEvent = TrialStarted | TrialReported | TrialPromoted | TrialPaused | TrialEnded
