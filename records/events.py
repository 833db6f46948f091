"""The events of a run's journal, one class for each; `docs/events.md` explains their fields."""

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
    """The driver has started the run, or resumed it."""

    resumed: bool
    seed: int
    identity: dict[str, str]
    versions: dict[str, str]


@dataclass(frozen=True)
class Footnote(Event, name="footnote"):
    """A note on the data, for the footer of the table."""

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
    """The machines of the cluster were surveyed."""

    nodes: tuple[NodeView, ...]


@dataclass(frozen=True)
class PrecisionChosen(Event, name="precision"):
    """The precision of matrix products is known."""

    precision: str


@dataclass(frozen=True)
class EncoderSized(Event, name="encoder"):
    """What the encoder takes to run: its parameters, and the operations of one image."""

    parameters: int
    flops: int


@dataclass(frozen=True)
class ImagesRead(Event, name="images"):
    """The features of some images are there: of test sets, or of what fits are given."""

    images: dict[str, str]


@dataclass(frozen=True)
class StageEnded(Event, name="stage"):
    """A stage of the run has ended."""

    stage: str
    seconds: float


@dataclass(frozen=True)
class TrialEvent(Event):
    """Something that happened to a trial."""

    cell: Cell
    trial: int


@dataclass(frozen=True)
class TrialStarted(TrialEvent, name="trial_started"):
    """A trial was proposed, or goes on after a pause or a resume."""

    origin: str
    config: dict[str, Any]
    probe: dict[str, Any] | None


@dataclass(frozen=True)
class TrialReport:
    """How good a trial is at a milestone: what travels from the trial to the search."""

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
    """A trial was evaluated at a milestone."""

    report: TrialReport


@dataclass(frozen=True)
class TrialPromoted(TrialEvent, name="trial_promoted"):
    """A trial goes on beyond a rung."""

    milestone: int


@dataclass(frozen=True)
class TrialPaused(TrialEvent, name="trial_paused"):
    """A trial waits at a rung and has freed its device."""

    milestone: int


@dataclass(frozen=True)
class TrialEnded(TrialEvent, name="trial_ended"):
    """A trial has ended."""

    status: End
    reason: str


@dataclass(frozen=True)
class SearchClosed(Event, name="search_closed"):
    """The search ends early."""

    reason: str


@dataclass(frozen=True)
class Winner(Event, name="winner"):
    """The best trial of a cell by its validation score, once the search is over.

    Of a bank, `config` has the best head alone and `tried` all heads, as the trial had them.
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
    """A final fit failed."""

    cell: Cell
    seed: int
    reason: str


@dataclass(frozen=True)
class RunFinished(Event, name="run_finished"):
    """The run is over."""

    seconds: float
