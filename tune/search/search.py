"""The search over all groups: whose turn it is, who goes on, who wins.

Nothing here knows Ray: `tune/trials/tuner.py` adapts it to one Tuner, and a test or a simulation
drives it with a loop. Every decision is written to the journal before it takes effect, so that
`replay` can rebuild the state of a killed run from `events.jsonl` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.storages import BaseStorage

from records.cell import Group
from records.journal import Journal
from search_spaces.distributions import Params
from search_spaces.schema import Experiment
from tune.search.cell_search import (
    DEFAULT_ORIGIN,
    FROM_PARTITION,
    SAMPLER,
    GroupSearch,
    TrialRecord,
    Winner,
)
from tune.search.sampler import DEFAULT
from tune.search.warm_start import transferred

__all__ = ["GroupSearch", "Proposal", "Search", "TrialRecord", "Winner"]


LEAD = 1.5
"""How far the smallest partition's groups are served ahead of the largest's, in budgets, where
configurations are handed up: most of what one partition learns, the next ones begin with."""


@dataclass(frozen=True)
class Proposal:
    """A trial to run. `probe` is the configuration of the probe whose head it starts from."""

    group: Group
    number: int
    config: Params
    probe: Params | None


class Search:
    """All groups of an experiment.

    Args:
        experiment: names the groups and their budgets.
        journal: receives every decision.
        storage: holds the groups' studies; empty.
        images: training images of each partition, by which a rung may come too early to judge.
    """

    def __init__(
        self,
        experiment: Experiment,
        journal: Journal,
        storage: BaseStorage,
        images: Mapping[float, int],
    ) -> None:
        self._journal = journal
        self._probe = experiment.probe
        self._awaited = any(method.needs_probe for method in experiment.methods.values())
        self._transfer = experiment.search.transfer
        self._enough = experiment.search.asha.reduction_factor
        self.on_end: Callable[[Group, int], None] = lambda group, number: None
        """Called with every trial that has ended for good."""
        self.closed: str | None = None
        self.groups = {
            group: GroupSearch(group, experiment, storage, images[partition])
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

    def close(self, reason: str) -> None:
        """Propose nothing more, and end every running trial at its next report."""
        if self.closed is not None:
            return
        self.closed = reason
        self._journal.write("search_closed", reason=reason)
        for group, search in self.groups.items():
            for number, trial in search.trials.items():
                if trial.status == "paused":
                    self.end(group, number, "cut", reason)

    @property
    def unfinished(self) -> list[tuple[Group, int]]:
        """Trials that may yet go on, by group and number: a resumed run takes up what was cut."""
        return [
            (group, number)
            for group, search in self.groups.items()
            for number, trial in search.trials.items()
            if trial.status in ("running", "paused", "cut")
        ]

    # Proposing

    def propose(self) -> Proposal | None:
        """The next trial; None while every group that has one left waits for its probe or rungs.

        First what a killed run was doing, then the probes that other groups wait for, then every
        group's first trial, then the group with the smallest share of its budget served, smaller
        partitions ahead if they hand up what they find. In the group promotions come before new
        configurations. Groups whose probe is not decided wait.
        """
        if self.closed:
            return None
        waiting = [s for s in self.groups.values() if s.has_next and self._ready(s)]
        if not waiting:
            return None
        search = min(waiting, key=self._turn)
        number = self._next(search)
        trial = search.trials[number]
        self._journal.write(
            "trial_started",
            group=str(search.group),
            trial=number,
            origin=trial.origin,
            config=trial.config,
            probe=trial.probe,
        )
        trial.status = "running"
        search.start(number)
        return Proposal(search.group, number, trial.config, trial.probe)

    def _turn(self, search: GroupSearch) -> tuple[bool, bool, bool, float]:
        """Where a group stands in the queue; the lowest is served."""
        probe = search.group.method == self._probe and self._awaited
        lag = 0.0
        if self._transfer and not probe:
            partitions = sorted({group.partition for group in self.groups})
            place = partitions.index(search.group.partition)
            lag = LEAD * place / max(1, len(partitions) - 1)
        served = search.proposed / search.budget
        return not search.orphans, not probe, search.proposed > 0, served + lag

    def _next(self, search: GroupSearch) -> int:
        """The number of the group's next trial: an orphan, a promoted or a new one."""
        if search.orphans:
            number = search.orphans.pop(0)
            self._adopt(search, number)
            return number
        promotable = search.rungs.promotable()
        if promotable is not None:
            return promotable
        number = len(search.trials)
        search.trials[number] = self._ask(search, number)
        return number

    def _ask(self, search: GroupSearch, number: int) -> TrialRecord:
        """A new trial, with the probe that its partition has by now."""
        origin, given = DEFAULT_ORIGIN if number == DEFAULT else SAMPLER, None
        early = 0 < number <= search.budget / 2
        if early and search.transferred < self._transfer:
            found = transferred(search, self.groups, self._enough)
            if found:
                origin, given = f"{FROM_PARTITION}{found[0]:g}", found[1]
        config = search.study.ask(number, given)
        probe = self._probe_config(search.group) if search.needs_probe else None
        if search.needs_probe and probe is None and config.get("head_start", "probe") == "probe":
            config = {**config, "head_start": "zeros"}  # its probe found nothing to start from
        return TrialRecord(config, probe, origin)

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
            report: milestone, samples, score, prospect (by which it is compared before its end;
                the score without), val_accuracy, val_loss, diverged, and what else is to be
                kept in the journal.
        """
        search = self.groups[group]
        trial = search.trials[number]
        if trial.status != "running":
            return False
        milestone = int(report["milestone"])
        if milestone not in trial.reports:
            self._journal.write("trial_report", group=str(group), trial=number, **report)
        end = search.take(number, report)
        if end:
            self.end(group, number, end, "loss is not finite" if end == "diverged" else "")
        elif self.closed:
            self.end(group, number, "cut", self.closed)
        elif search.rungs.waits(number):
            self._judge(search, number)
        return trial.status == "running"

    def _judge(self, search: GroupSearch, number: int) -> None:
        """A trial at a rung goes on at once, or waits there, unless it would wait in vain."""
        trial = search.trials[number]
        told = {"group": str(search.group), "trial": number, "milestone": max(trial.reports)}
        if search.rungs.admits(number):
            self._journal.write("trial_promoted", **told)
            search.start(number)
        else:
            if number not in search.rungs.hopeless():
                self._journal.write("trial_paused", **told)
            trial.status = "paused"
        self._settle(search)

    def end(self, group: Group, number: int, status: str, reason: str = "") -> None:
        """A trial has ended; a second end of the same trial changes nothing."""
        search = self.groups[group]
        trial = search.trials[number]
        if trial.status not in ("running", "paused"):
            return
        self._journal.write(
            "trial_ended", group=str(group), trial=number, status=status, reason=reason
        )
        trial.status = status
        if number in search.study.asked:
            search.study.tell(number, status, trial.score)
        if status != "cut":  # a resumed run takes up what was cut
            search.rungs.end(number)
            self.on_end(group, number)
            self._settle(search)

    def _settle(self, search: GroupSearch) -> None:
        """Stop for good whoever waits in vain."""
        while not self.closed and (hopeless := search.rungs.hopeless()):
            self.end(search.group, hopeless[0], "stopped")

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
            search = self.groups.get(Group.parse(event["group"])) if "trial" in event else None
            if search is None:
                continue
            number = int(event["trial"])
            match event["event"]:
                case "trial_started":
                    origin = event.get("origin", SAMPLER)
                    record = TrialRecord(dict(event["config"]), event.get("probe"), origin)
                    search.trials.setdefault(number, record).status = "running"
                    search.start(number)
                case "trial_report":
                    ends[search.group, number] = search.take(number, event)
                case "trial_promoted":
                    search.start(number)
                case "trial_paused":
                    search.trials[number].status = "paused"
                case "trial_ended":
                    search.trials[number].status = event["status"]
                    if event["status"] != "cut":
                        search.rungs.end(number)
        for group, search in self.groups.items():
            self._decide(search, {n: end for (g, n), end in ends.items() if g == group})
            self._settle(search)
            for number, trial in sorted(search.trials.items()):
                if trial.status == "paused":
                    self._adopt(search, number)
                elif number not in search.orphans:
                    known = (trial.config, trial.status, trial.reports, trial.score)
                    search.study.replay(number, *known)

    def _decide(self, search: GroupSearch, ends: Mapping[int, str | None]) -> None:
        """What becomes of replayed trials that were running or were cut.

        Args:
            ends: how the last report of a trial ended it, if it did.
        """
        alive = [n for n, t in sorted(search.trials.items()) if t.status in ("running", "cut")]
        for number in alive:
            search.trials[number].status = "running"
        for number in alive:
            end = ends.get(number)
            if search.trials[number].status != "running":
                continue  # stopped for good by one before it
            if end:  # killed between its last report and its end
                self.end(search.group, number, end)
            elif search.rungs.waits(number):
                self._judge(search, number)
            if search.trials[number].status == "running":
                search.orphans.append(number)
