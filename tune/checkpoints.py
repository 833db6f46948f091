"""Checkpoints of trials: files that carry a fit from one process to the next.

They carry it over a pause at a rung, over the death of its process, of its node or of the driver,
and, if it wins, on to the final fit with the search's own seed.
"""

from __future__ import annotations

import json
import logging
import os
import zlib
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any

from tune.groups import Group
from tune.storage import Storage

log = logging.getLogger(__name__)

SOUND = ("completed", "stopped")  # ends of a trial that may win
CHECKSUM = 4  # bytes at a file's end: torch reads damaged weights without a word

if TYPE_CHECKING:
    from models.fit import Fit
    from tune.bench import Workbench
    from tune.search import Search


class Checkpoint:
    """One trial's file.

    Args:
        folder: of all checkpoints of a run, which every machine reaches.
        config, probe: the trial's settings, and those of the probe it starts from.
        fit: the trial's, at its start. It is not kept: when a trial ends, its memory goes.
    """

    def __init__(
        self,
        folder: Storage,
        bench: Workbench,
        group: Group,
        number: int,
        config: Mapping[str, Any],
        probe: Mapping[str, Any] | None,
        fit: Fit,
    ) -> None:
        self._folder, self._name = folder, checkpoint_name(group, number)
        experiment = bench.experiment
        # Another run's file may lie there, on a machine the driver could not clean up.
        names = [str(group), number, config, probe if fit.recipe.start == "probe" else None]
        rests_on = [bench.identity, experiment.seed, experiment.horizon(group.method)]
        after = [fit.precision, experiment.final.ema]
        self._identity = json.dumps([*names, *rests_on, *after], sort_keys=True)

    def save(self, fit: Fit, report: Mapping[str, Any]) -> None:
        """Write the fit as it is, with what it last reported.

        Where the disk is full the trial goes on without: its file stays as it was.
        """
        import torch

        saved = {"identity": self._identity, "fit": fit.state(), "report": dict(report)}
        try:
            with self._folder.writing(self._name) as file:
                torch.save(saved, file)
                file.seek(0)
                file.write(_checksum(file))
        except (OSError, RuntimeError) as error:  # torch has its own for a full disk
            log.warning("%s: not written, the trial goes on: %s", self._name, error)

    def take_up(self, fit: Fit) -> dict[str, Any] | None:
        """Bring the fit to where the file has it; returns its last report.

        None, and the fit as it was, without a file, or with one that is damaged or another's.
        """
        import torch

        try:
            with self._folder.reading(self._name) as file:
                content = file.seek(0, os.SEEK_END) - CHECKSUM
                file.seek(0)
                if content < 0 or _checksum(file, content) != file.read():
                    log.warning("%s: damaged, the trial starts anew", self._name)
                    return None
                file.seek(0)
                saved = torch.load(file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        if saved["identity"] != self._identity:
            return None
        fit.load(saved["fit"])
        report: dict[str, Any] = saved["report"]
        return report


class KeptCheckpoints:
    """Which files of a search's trials stay: of those that may go on, and of each group's best.

    The final fit of the best one with the search's own seed goes on from there. Everything else
    in the folder is removed: a killed run leaves files of trials that had just ended, and files
    half written; one that is resumed with fewer methods or partitions, those it no longer has.
    """

    def __init__(self, folder: Storage, search: Search) -> None:
        self.folder, self._search = folder, search
        self._best = {group: winner.number for group, winner in search.winners().items()}
        self._keep({*search.unfinished, *self._best.items()})

    def ended(self, group: Group, number: int) -> None:
        """A trial has ended for good: of it and the group's best before it, one file stays."""
        trials = self._search.groups[group].trials
        rivals = {number, self._best.get(group, number)}
        sound = [n for n in rivals if trials[n].best and trials[n].status in SOUND]
        if sound:
            self._best[group] = max(sound, key=lambda n: (trials[n].score, -n))
        for rival in rivals - {self._best.get(group)}:
            self.folder.delete(checkpoint_name(group, rival))

    def release(self) -> None:
        """The winners have been fitted: keep only what a resumed run would take up."""
        self._keep(set(self._search.unfinished))

    def _keep(self, trials: set[tuple[Group, int]]) -> None:
        for name in {*self.folder.files()} - {checkpoint_name(*trial) for trial in trials}:
            self.folder.delete(name)


def checkpoint_name(group: Group, number: int) -> str:
    """The file of a trial's checkpoint."""
    return f"{group.partition:g}-{group.method}-{number}.pt"


def _checksum(file: IO[bytes], size: int | None = None) -> bytes:
    """CRC-32 of the next `size` bytes of a file, or of all the rest."""
    crc, left = 0, size
    while block := file.read(1 << 24 if left is None else min(left, 1 << 24)):
        crc = zlib.crc32(block, crc)
        left = None if left is None else left - len(block)
    return crc.to_bytes(CHECKSUM, "little")
