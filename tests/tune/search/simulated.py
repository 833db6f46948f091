"""A search without Ray: a loop in the Tuner's place, and scores that follow from the configuration.

Scores are a function of (cell, configuration, milestone), so that two runs that make the same
decisions get the same winners; so are prospects, where a run has them. Some configurations
diverge and some kill their process.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from records import (
    Cell,
    JournalWriter,
    TrialEnded,
    TrialEvent,
    TrialPaused,
    TrialPromoted,
    TrialReport,
    TrialReported,
    TrialStarted,
    read_journal,
)
from search_spaces import Experiment
from tune.search.search import Proposal, Search
from tune.search.simulation import Player, a_report

FROZEN = {
    "space": {
        "blocks": "none",
        "head_lr": {"bank": [1e-3, 1e-2]},
        "label_smoothing": {"uniform": [0.0, 0.2]},
    },
    "trials": 3,
}
LLRD = {
    "space": {
        "blocks": {"choice": ["11-7", "11", "all"]},
        "llrd_decay": {"uniform": [0.5, 1.0], "when": {"blocks": ["11-7", "all"]}, "otherwise": 1},
        "lr": {"loguniform": [1e-4, 1e-2]},
    },
    "default": {"lr": 1e-3},
}
FIXED = {"space": {"blocks": "11", "lr": 1e-4}}
ZEROS = {"space": {"blocks": "11", "head_start": "zeros", "lr": {"loguniform": [1e-5, 1e-2]}}}

Scorer = Callable[[Cell, Mapping[str, Any], int], float]


def experiment(
    *,
    methods: Mapping[str, Any] | None = None,
    partitions: tuple[float, ...] = (1, 100),
    seed: int = 0,
    **search: Any,
) -> Experiment:
    """Two partitions, three methods; milestones 10, 30, 60, 90 of which 10, 30, 90 are rungs."""
    settings = {"trials": 4, "samples": 90, "epochs": 1000, "sampler": "random", "transfer": 0}
    return Experiment.model_validate(
        {
            "name": "simulated",
            "seed": seed,
            "data": {"source": "digits", "partitions": partitions},
            "search": {**settings, **search},
            "final": {"seeds": 3},
            "methods": methods or {"frozen": FROZEN, "llrd": LLRD, "fixed": FIXED},
        }
    )


def drawn(*key: Any) -> float:
    """A number in [0, 1) that follows from `key`."""
    text = json.dumps(key, sort_keys=True, default=list)
    return zlib.crc32(text.encode()) / 2**32


def smooth(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
    """Rises with training, from a place that the configuration decides."""
    return 0.6 * drawn(str(cell), config) + 0.3 * (1 - 10 / (10 + milestone))


def rough(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
    """Ranks change from milestone to milestone; NaN for "diverged", -1 for "its process dies"."""
    if drawn(str(cell), config, "dies at", milestone) < 0.06:
        return -1.0
    if drawn(str(cell), config, "diverges at", milestone) < 0.06:
        return float("nan")
    return round(drawn(str(cell), config, milestone), 1)  # coarse, so that some tie


def probe_dies(cell: Cell, config: Mapping[str, Any], milestone: int) -> float:
    """Every probe at 1% kills its process; the others have smooth scores."""
    return -1.0 if cell == Cell(1, "frozen") else smooth(cell, config, milestone)


def rungs_of(scheduler: Any) -> dict[int, dict[int, float]]:
    """The scores that the rungs of Asha or Hyperband hold, by milestone and by trial."""
    found: dict[int, dict[int, float]] = {}
    for bracket in getattr(scheduler, "brackets", [scheduler]):
        for rung in getattr(bracket, "_rungs", []):
            found.setdefault(rung.milestone, {}).update(rung.records)
    return found


class Simulation(Player):
    """One process of a run: a search on a journal, and trials in flight.

    Args:
        spec: what to search.
        path: the journal; what it holds is replayed, as `--resume` does.
        scorer: what trials score.
        slots: trials at once; the next to report is drawn from those in flight.
        seed: of that draw.
        prospects: whether trials are compared by something else than their score.
        images: training images of each partition.
    """

    def __init__(
        self,
        spec: Experiment,
        path: Path,
        scorer: Scorer = smooth,
        slots: int = 1,
        seed: int = 0,
        prospects: bool = False,
        images: Mapping[float, int] = MappingProxyType({}),
    ) -> None:
        self.experiment, self.path = spec, path
        self._scorer, self._prospects = scorer, prospects
        events = read_journal(path)
        self.journal = JournalWriter(path)
        images = {partition: images.get(partition, 1) for partition in spec.data.partitions}
        search = Search(spec, self.journal, images)
        search.replay(events)
        draw = random.Random(seed)
        super().__init__(search, self._scored, draw.choice, slots)

    def _scored(self, proposal: Proposal, milestone: int) -> TrialReport | None:
        score = self._scorer(proposal.cell, proposal.config, milestone)
        more: dict[str, Any] = {}
        if self._prospects:
            more["prospect"] = drawn(str(proposal.cell), proposal.config, milestone, "prospect")
        if len(proposal.config.get("head_lr", ())) > 1:
            more["chosen"] = {"head_lr": max(proposal.config["head_lr"]), "weight_decay": 0.0}
        return None if score == -1 else a_report(milestone, score, **more)

    def run(self, reports: int | None = None) -> Simulation:
        super().run(reports)
        return self

    @property
    def outcome(self) -> dict[str, Any]:
        """Everything a run is to be judged by, as plain JSON: trials, rungs and winners."""
        cells = {
            str(cell): {
                "trials": {
                    n: [t.config, t.reports, state.status(n), t.score if t.best else None]
                    for n, t in sorted(state.trials.items())
                },
                "rungs": rungs_of(state.scheduler),
                "winner": state.winner(),
            }
            for cell, state in self.search.cells.items()
        }
        plain: dict[str, Any] = json.loads(json.dumps(cells, default=vars))
        return plain

    def check_finished(self) -> None:
        """The invariants of a finished search, however often it was killed on the way."""
        assert self.search.finished
        for cell, state in self.search.cells.items():
            assert state.unproposed == 0
            assert sorted(state.trials) == list(range(self.experiment.trials(cell.method)))
            for trial in state.trials.values():
                assert trial.ended in ("completed", "stopped", "diverged", "failed")
                assert trial.ended != "stopped" or trial.origin != "default"
        self.check_against_journal()

    def check_against_journal(self) -> None:
        """Trials and rungs hold what the journal says, no more and no less."""
        started: dict[tuple[Cell, int], Any] = {}
        status: dict[tuple[Cell, int], str] = {}
        reports: dict[tuple[Cell, int], dict[int, TrialReport]] = {}
        for event in read_journal(self.path):
            if not isinstance(event, TrialEvent):
                continue
            key = (event.cell, event.trial)
            match event:
                case TrialStarted(config=config):
                    before = status.get(key, "running")
                    assert before in ("running", "paused", "cut"), f"{key} starts again: {before}"
                    assert config == started.setdefault(key, config)
                    status[key] = "running"
                case TrialReported(report=report):
                    assert status[key] == "running"
                    assert report.milestone not in reports.get(key, {})
                    reports.setdefault(key, {})[report.milestone] = report
                case TrialPromoted(milestone=milestone):
                    assert status[key] in ("running", "cut")  # a resumed run decides who was cut
                    assert milestone == max(reports[key])
                case TrialPaused() | TrialEnded():
                    assert status[key] in ("running", "paused", "cut"), f"{key} ends twice"
                    status[key] = event.status if isinstance(event, TrialEnded) else "paused"
        kept = {key: {m: report.prospect for m, report in reports.get(key, {}).items()
                      if not report.diverged} for key in started}  # fmt: skip
        for cell, state in self.search.cells.items():
            keys = {number for g, number in started if g == cell}
            assert keys == set(state.trials)
            for number, trial in state.trials.items():
                assert trial.reports == kept[cell, number]
                again = number in state.orphans
                assert state.status(number) == ("left" if again else status[cell, number])
            recorded = rungs_of(state.scheduler)
            for rung in state.scheduler.milestones:
                here = {n: kept[cell, n].get(rung) for n in keys}
                assert recorded.get(rung, {}).items() <= here.items()
            for number in keys:  # whoever was judged was judged at every rung from there on
                judged = [n for n in recorded if number in recorded[n]]
                later = [n for n in recorded if judged and n >= min(judged)]
                assert judged == [n for n in later if n in kept[cell, number]]
