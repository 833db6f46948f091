"""The search over all groups: whose turn it is, who stops, who wins.

Nothing here knows Ray: `tune/ray_search.py` adapts it to one Tuner, and a test or a simulation
drives it with a loop. Every decision is written to the journal before it takes effect, so that
`replay` can rebuild the state of a killed run from `events.jsonl` alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from optuna.storages import BaseStorage

from tune.experiment import Experiment
from tune.groups import Group
from tune.journal import Journal
from tune.rungs import Rungs
from tune.space import Params
from tune.study import GroupStudy


@dataclass(frozen=True)
class Proposal:
    """A trial to run. `probe` is the configuration of the probe whose head it starts from."""

    group: Group
    number: int
    config: Params
    probe: Params | None


@dataclass
class TrialRecord:
    """What is known of one trial. `probe` is what its head started from."""

    config: Params
    probe: Params | None = None
    reports: dict[int, float] = field(default_factory=dict)  # milestone to score
    best: Mapping[str, Any] | None = None  # the report with the highest score
    status: str = "running"
    samples: int = 0
    seconds: float = 0.0

    @property
    def score(self) -> float:
        return float(self.best["score"]) if self.best else -math.inf


@dataclass(frozen=True)
class Winner:
    """The best trial of a group by validation score; its config trains a single head."""

    group: Group
    number: int
    config: Params
    probe: Params | None
    val_accuracy: float
    samples: int


class GroupSearch:
    """The state of one group: its trials, rungs and study."""

    def __init__(self, group: Group, experiment: Experiment, storage: BaseStorage) -> None:
        method = experiment.methods[group.method]
        self.group = group
        self.budget = experiment.trials(group.method)
        self.horizon = experiment.horizon(group.method)
        self.needs_probe = method.needs_probe
        self.trials: dict[int, TrialRecord] = {}
        self.rungs = Rungs(experiment.search, self.horizon)
        self.study = GroupStudy(group, method.parsed, experiment.search, experiment.seed, storage)
        self.orphans: list[int] = []  # of a killed run: to be proposed again, as they were

    @property
    def proposed(self) -> int:
        return len(self.trials) - len(self.orphans)

    @property
    def exhausted(self) -> bool:
        """Whether every trial of the budget has been proposed."""
        return self.proposed >= max(self.budget, len(self.trials))

    @property
    def finished(self) -> bool:
        """Whether every trial of the budget has ended."""
        return self.exhausted and all(t.status != "running" for t in self.trials.values())

    def winner(self) -> Winner | None:
        """The best trial so far; the earlier one of two that tie. One that diverged never wins."""
        sound = {n: t for n, t in self.trials.items() if t.best and t.status != "diverged"}
        scored = [(trial.score, -number) for number, trial in sound.items()]
        if not scored:
            return None
        number = -max(scored)[1]
        trial = self.trials[number]
        assert trial.best is not None
        config = {**trial.config, **trial.best.get("chosen", {})}
        accuracy, samples = trial.best["val_accuracy"], trial.best["samples"]
        return Winner(self.group, number, config, trial.probe, accuracy, samples)


class Search:
    """All groups of an experiment.

    Args:
        experiment: names the groups and their budgets.
        journal: receives every decision.
        storage: holds the groups' studies; empty.
    """

    def __init__(self, experiment: Experiment, journal: Journal, storage: BaseStorage) -> None:
        self._journal = journal
        self._probe = experiment.probe
        self.closed: str | None = None
        self.groups = {
            group: GroupSearch(group, experiment, storage)
            for partition in experiment.data.partitions
            for method in experiment.methods
            for group in (Group(partition, method),)
        }

    @property
    def finished(self) -> bool:
        """Whether nothing is left to propose or to wait for."""
        if self.closed:
            return True
        return all(search.finished for search in self.groups.values())

    @property
    def remaining(self) -> int:
        """Trials still to be proposed."""
        return sum(max(s.budget, len(s.trials)) - s.proposed for s in self.groups.values())

    def close(self, reason: str) -> None:
        """Propose nothing more, and end every running trial at its next report."""
        if self.closed is None:
            self.closed = reason
            self._journal.write("search_closed", reason=reason)

    # Proposing

    def propose(self) -> Proposal | None:
        """The next trial; None while every group that has one left waits for its probe.

        First every group's first trial, then the group with the smallest share of its budget
        served. Groups whose probe is not decided wait.
        """
        if self.closed:
            return None
        waiting = [s for s in self.groups.values() if not s.exhausted and self._ready(s)]
        if not waiting:
            return None
        search = min(waiting, key=lambda s: s.proposed / s.budget)
        number = search.orphans.pop(0) if search.orphans else len(search.trials)
        if number in search.trials:
            self._adopt(search, number)
        else:
            search.trials[number] = self._ask(search, number)
        trial = search.trials[number]
        self._journal.write(
            "trial_started",
            group=str(search.group),
            trial=number,
            config=trial.config,
            probe=trial.probe,
        )
        return Proposal(search.group, number, trial.config, trial.probe)

    def _ask(self, search: GroupSearch, number: int) -> TrialRecord:
        """A new trial, with the probe that its partition has by now."""
        config = search.study.ask(number)
        probe = self._probe_config(search.group) if search.needs_probe else None
        if search.needs_probe and probe is None and config.get("head_start", "probe") == "probe":
            config = {**config, "head_start": "zeros"}  # its probe found nothing to start from
        return TrialRecord(config, probe)

    def _adopt(self, search: GroupSearch, number: int) -> None:
        """Take up a trial of a killed run as it was, its probe too."""
        trial = search.trials[number]
        search.study.adopt(number, trial.config)
        for milestone, score in trial.reports.items():
            search.study.report(number, milestone, score)

    def _ready(self, search: GroupSearch) -> bool:
        if not search.needs_probe:
            return True
        return self.groups[self._probe_group(search.group)].finished

    def _probe_group(self, group: Group) -> Group:
        assert self._probe is not None  # an experiment that needs a probe has one
        return Group(group.partition, self._probe)

    def _probe_config(self, group: Group) -> Params | None:
        winner = self.groups[self._probe_group(group)].winner()
        return winner.config if winner else None

    # Reports

    def report(self, group: Group, number: int, report: Mapping[str, Any]) -> bool:
        """Take a trial's report; returns whether the trial goes on.

        Args:
            report: milestone, samples, score, val_accuracy, val_loss, diverged, and what else
                is to be kept in the journal.
        """
        search = self.groups[group]
        trial = search.trials[number]
        if trial.status != "running":
            return False
        milestone = int(report["milestone"])
        if milestone not in trial.reports:
            self._journal.write("trial_report", group=str(group), trial=number, **report)
        end = self._take(search, number, report)
        if end:
            self.end(group, number, end, "loss is not finite" if end == "diverged" else "")
        elif self.closed:
            self.end(group, number, "cut", self.closed)
        return trial.status == "running"

    def _take(self, search: GroupSearch, number: int, report: Mapping[str, Any]) -> str | None:
        """Let trial, rungs and study know of a report; returns how the trial ends by it, if so."""
        trial = search.trials[number]
        milestone = int(report["milestone"])
        trial.samples, trial.seconds = int(report["samples"]), float(report["seconds"])
        if report["diverged"]:
            return "diverged"
        score = float(report["score"])
        if milestone not in trial.reports:
            trial.reports[milestone] = score
            if score > trial.score:
                trial.best = dict(report)
            if number in search.study.asked:
                search.study.report(number, milestone, score)
        goes_on = search.rungs.record(milestone, number, score)
        if milestone >= search.horizon:
            return "completed"
        return None if goes_on else "stopped"

    def end(self, group: Group, number: int, status: str, reason: str = "") -> None:
        """A trial has ended; a second end of the same trial changes nothing."""
        search = self.groups[group]
        trial = search.trials[number]
        if trial.status != "running":
            return
        trial.status = status
        self._journal.write(
            "trial_ended", group=str(group), trial=number, status=status, reason=reason
        )
        search.study.tell(number, status, trial.score)

    def winners(self) -> dict[Group, Winner]:
        """The winner of every group that has one."""
        found = {group: search.winner() for group, search in self.groups.items()}
        return {group: winner for group, winner in found.items() if winner}

    # Resuming

    def replay(self, events: Iterable[Mapping[str, Any]]) -> None:
        """Rebuild the state that wrote `events`; trials left running will be proposed again.

        Trials of groups that the experiment no longer has are passed over.
        """
        ends: dict[tuple[Group, int], str | None] = {}  # by the last report of each trial
        for event in events:
            if event["event"] not in ("trial_started", "trial_report", "trial_ended"):
                continue
            search = self.groups.get(Group.parse(event["group"]))
            if search is None:
                continue
            number = int(event["trial"])
            match event["event"]:
                case "trial_started":
                    record = TrialRecord(dict(event["config"]), event.get("probe"))
                    search.trials.setdefault(number, record)
                case "trial_report":
                    ends[search.group, number] = self._take(search, number, event)
                case "trial_ended":
                    search.trials[number].status = event["status"]
        for search in self.groups.values():
            for number, trial in sorted(search.trials.items()):
                end = ends.get((search.group, number))
                if trial.status == "running" and end:  # killed between its last report and its end
                    trial.status = end
                    self._journal.write(
                        "trial_ended", group=str(search.group), trial=number, status=end
                    )
                if trial.status in ("running", "cut"):
                    trial.status = "running"
                    search.orphans.append(number)
                else:
                    search.study.replay(trial.config, trial.status, trial.reports)
