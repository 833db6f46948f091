"""Checkpoints of trials: files that carry a fit from one process to the next.

They carry it over a pause at a rung, over the death of its process, of its node or of the driver,
and, if it wins, on to the final fit with the search's own seed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any, cast

from errors import InputError, one_line
from files import Summed, crc32
from records import Cell, TrialReport, checkpoint_name, decode, encode, is_probe_head
from tune.storage.storage import ERRORS, Storage

log = logging.getLogger(__name__)

SOUND = ("completed", "stopped")  # ends of a trial that may win
BEFORE = 8  # bytes behind torch's: the milestone that was reported before the file's own
CHECKSUM = 4  # bytes at a file's end: torch reads damaged weights without a word

if TYPE_CHECKING:
    from models.fit import Fit
    from tune.search.search import Search
    from tune.trials.trial_context import TrialContext


class Checkpoint:
    """One trial's file, in the folder of a run's checkpoints that every machine reaches.

    `fit` is the trial's at its start. It is not kept: when a trial ends, its memory goes.
    """

    def __init__(
        self,
        folder: Storage,
        context: TrialContext,
        cell: Cell,
        number: int,
        config: Mapping[str, Any],
        probe: Mapping[str, Any] | None,
        fit: Fit,
    ) -> None:
        self._folder, self._name = folder, checkpoint_name(cell, number)
        self._reported = 0  # the milestone
        experiment = context.experiment
        # Another run's file may lie there, on a machine the driver could not clean up.
        names = [str(cell), number, config, probe if fit.recipe.start == "probe" else None]
        rests_on = [context.run_fingerprint, experiment.seed, fit.horizon]
        after = [context.precision, experiment.final.ema]
        self._fit_key = json.dumps([*names, *rests_on, *after], sort_keys=True)

    def save(self, fit: Fit, report: TrialReport) -> None:
        """Write the fit as it is, with what it last reported.

        Where the disk is full the trial goes on without: its file stays as it was.
        """
        import torch

        torch.serialization.set_crc32_options(False)  # nobody reads torch's: ours covers all
        saved = {"fit_key": self._fit_key, "fit": fit.state_dict(), "report": encode(report)}
        try:
            with self._folder.writing(self._name) as file:
                summed = Summed(file)
                torch.save(saved, cast(IO[bytes], summed))
                summed.write(self._reported.to_bytes(BEFORE, "little"))
                file.write(summed.crc.to_bytes(CHECKSUM, "little"))
        except (*ERRORS, RuntimeError) as error:  # torch has its own for a full disk
            log.warning("%s: not written, the trial goes on: %s", self._name, error)
        self.passed(report)

    def passed(self, report: TrialReport) -> None:
        """Take note of a report with which, or without, a file was written."""
        self._reported = report.milestone

    def take_up(self, fit: Fit) -> TrialReport | None:
        """Bring the fit to where the file has it; return its last report.

        The result is None, and the fit as it was, where there is no file, it is damaged or another
        trial's, or the storage fails.
        """
        import torch

        try:
            with self._folder.reading(self._name) as file:
                content = file.seek(0, os.SEEK_END) - CHECKSUM
                file.seek(0)
                if content < 0 or crc32(file, content) != int.from_bytes(file.read(), "little"):
                    log.warning("%s: damaged, the trial starts anew", self._name)
                    return None
                file.seek(0)
                saved = torch.load(file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            return None
        # To begin again repeats work, and comes to the same. To fail would end the trial for good
        # if the storage were away for longer than Tune's tries take, and a final fit at once.
        except (*ERRORS, SystemError) as error:  # torch hides a file's own in that
            log.warning("%s: cannot be read, the trial starts anew: %s", self._name, error)
            return None
        if saved["fit_key"] != self._fit_key:
            return None
        fit.load_state_dict(saved["fit"])
        report = decode(TrialReport, saved["report"])
        self._reported = report.milestone
        return report


class KeptCheckpoints:
    """Keeps the checkpoints of trials that may go on, and of each cell's best.

    The final fit of the best one with the search's own seed goes on from there. All other files in
    the folder are removed: of killed runs, of trials that have ended, of methods and partitions
    that a resumed run no longer has, and of trials whose last reports a copied journal lacks. Heads
    of probes stay until the release.

    A storage may fail for a while. A file that it did not remove goes when the next trial ends, or
    at `release`: a file too many harms nobody, and is no reason to end a run.

    Raises:
        InputError: the storage fails at the beginning, where nothing is lost by it.
    """

    def __init__(self, folder: Storage, search: Search) -> None:
        self.folder, self._search = folder, search
        self._due: set[str] = set()  # files that are to go
        self._discard_ahead()
        leaders = {cell: self._leader(cell, state.trials) for cell, state in search.cells.items()}
        best = {(cell, number) for cell, number in leaders.items() if number is not None}
        winners = {(cell, winner.trial) for cell, winner in search.winners().items()}
        self._keep({*search.unfinished, *best, *winners}, heads=True)

    def ended(self, cell: Cell, number: int) -> None:
        """Keep the better file of a trial that has ended for good and of its cell's best."""
        before = self._leader(cell, self._search.cells[cell].trials.keys() - {number})
        rivals = {number} if before is None else {number, before}
        lost = rivals - {self._leader(cell, rivals)}
        with self._patiently():
            self._remove({checkpoint_name(cell, rival) for rival in lost})

    def _leader(self, cell: Cell, numbers: Iterable[int]) -> int | None:
        """Return the best of some trials, of those that have ended soundly."""
        trials = self._search.cells[cell].trials
        sound = [n for n in numbers if trials[n].best and trials[n].ended in SOUND]
        return max(sound, key=lambda n: (trials[n].score, -n), default=None)

    def release(self) -> None:
        """Keep only what a resumed run would take up: the winners have been fitted."""
        self._keep(set(self._search.unfinished))

    def _keep(self, trials: set[tuple[Cell, int]], heads: bool = False) -> None:
        with self._patiently():
            kept = {checkpoint_name(*trial) for trial in trials}
            there = self.folder.listing().keys()
            kept |= {name for name in there if heads and is_probe_head(name)}
            self._remove(there - kept)

    def _remove(self, names: set[str]) -> None:
        self._due |= names
        for name in sorted(self._due):
            self.folder.delete(name)
            self._due.remove(name)

    @contextlib.contextmanager
    def _patiently(self) -> Iterator[None]:
        try:
            yield
        except ERRORS as error:
            log.warning("%s: files too many stay for now: %s", self.folder.path, one_line(error))

    def _discard_ahead(self) -> None:
        """Remove files of trials with reports, before the file's own, that the journal lacks.

        From such a file a trial would go on beyond rungs that never hear of it. The file's own
        report may be missing: a trial that takes it up makes that one again.
        """
        try:
            for cell, number in self._search.unfinished:
                known = max(self._search.cells[cell].trials[number].reports, default=0)
                if self._reported_before(checkpoint_name(cell, number)) > known:
                    self.folder.delete(checkpoint_name(cell, number))
        except ERRORS as error:
            raise InputError(
                f"{self.folder.path}: cannot be read or written to: {one_line(error)}; what was "
                "done is kept: --resume tries again"
            ) from None

    def _reported_before(self, name: str) -> int:
        """Read the milestone before a file's own; 0 without a file, or with too short a one."""
        with contextlib.suppress(FileNotFoundError), self.folder.reading(name) as file:
            if (size := file.seek(0, os.SEEK_END)) >= BEFORE + CHECKSUM:
                file.seek(size - BEFORE - CHECKSUM)
                return int.from_bytes(file.read(BEFORE), "little")
        return 0
