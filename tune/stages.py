"""The stages of a run that need Ray, each a function from what it needs to what it makes."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from data import Draws, ImageSource, Split, SplitContent
from errors import InputError
from models.encoder import HEAD
from models.recipe import Recipe
from records import (
    DUPLICATES,
    IMPORTANCE,
    LABEL_ISSUES,
    SKIPPED,
    TEST,
    Cell,
    EncoderSized,
    Event,
    FinalFitFailed,
    ImagesRead,
    JournalWriter,
    PrecisionChosen,
    Winner,
)
from search_spaces.recorded import read_recorded
from tune.features.draw_contents import Needed, draw_contents, read_drawn
from tune.features.duplicates import DuplicateSearch
from tune.features.label_audit import audit_labels
from tune.features.stage import Features
from tune.machines import Machines
from tune.monitor.loggers import TrialLog
from tune.monitor.progress import Progress
from tune.monitor.watch import Watch
from tune.run_dir import RunDirectory
from tune.search.importance import importances
from tune.search.search import Search
from tune.search.time_budget import TimeBudget
from tune.setup import Prepared, final_fits_of, placement, run_fingerprint
from tune.storage.storage import Storage
from tune.trials.checkpoints import KeptCheckpoints
from tune.trials.final_fits import (
    FinalFitJob,
    FinalFitWorker,
    discard_others,
    pending,
    run_final_fits,
    spent_on,
)
from tune.trials.trial_context import TrialContext
from tune.trials.tuner import run_tuner
from tune.workers.object_store import SharedSplit
from tune.workers.placement import Placement


@dataclass(frozen=True)
class Site:
    """What every stage of a run works with.

    `events` are those of the run that is resumed.
    """

    prepared: Prepared
    directory: RunDirectory
    journal: JournalWriter
    events: Sequence[Event]
    machines: Machines
    watch: Watch


def place_trials(site: Site) -> Placement:
    """Note how the devices compute, and decide how trials are placed on them.

    Raises:
        InputError: no GPU has room for what a method trains, or the devices compute in another
            precision than those that the resumed run began on.
    """
    prepared, machines = site.prepared, site.machines
    site.directory.check_precision(machines.precision, site.events)
    site.journal.write(PrecisionChosen(machines.precision))
    parameters = sum(p.numel() for p in prepared.pretrained.encoder.parameters())
    site.journal.write(EncoderSized(parameters, prepared.plan.encoder_flops))
    return placement(prepared, machines.cluster, machines.nodes, machines.precision)


def make_features(site: Site) -> tuple[Draws, Features]:
    """Make the features of the images of train and validation that some fit is given.

    Returns:
        The draws of the images that can be read, and the features.
    """
    prepared = site.prepared
    dataset, plan = prepared.dataset, prepared.plan
    splits = {"train": dataset.train, "val": dataset.val}

    def make(needed: Needed) -> Features:
        return _features(site, splits, plan.boundaries, dataset.source, needed)

    with site.watch.timed("features"):
        draws, made = read_drawn(prepared.draws, plan.seeds, make)
        drawn = draw_contents(draws, plan.seeds, made, dataset.classes)
        site.directory.check_images(drawn, site.events)
        site.directory.forget_lists(drawn, site.events)
        site.journal.write(ImagesRead(drawn))
        if made.speed:
            site.journal.write(made.speed)
    _say_skipped(site, made)
    return draws, made


def _features(
    site: Site,
    splits: Mapping[str, Split],
    boundaries: Sequence[str],
    source: ImageSource,
    needed: Needed = MappingProxyType({}),
) -> Features:
    """Make the features of some splits, and list the images that cannot be read.

    Of a split in `needed` it is these rows alone.
    """
    prepared = site.prepared
    stage = site.machines.feature_stage(prepared, source)
    with site.watch.features(" and ".join(splits)) as progress:
        made = stage.run(
            splits,
            boundaries,
            prepared.experiment.data.max_unreadable,
            views={"train": prepared.experiment.views},
            view_boundaries=prepared.plan.view_boundaries if "train" in splits else (),
            needed=needed,
            progress=progress,
        )
    site.directory.write_skipped(made.skipped, list(splits))
    return made


def _say_skipped(site: Site, made: Features) -> None:
    """Say how many images the run goes on without."""
    if count := len(made.skipped):
        images = "image cannot be read and is" if count == 1 else "images cannot be read and are"
        first = made.skipped[0]
        site.watch.print(
            f"{count} {images} left out: {first.split} {first.key} ({first.reason}); "
            f"all are in {SKIPPED.file}"
        )


def make_context(site: Site, draws: Draws, features: Features, kept_heads: Storage) -> TrialContext:
    """Gather what a worker needs to run any fit: train and validation, and no test split."""
    prepared, machines = site.prepared, site.machines
    return TrialContext(
        prepared.experiment,
        machines.pretrained,
        run_fingerprint(prepared),
        machines.precision,
        prepared.dataset.classes,
        features.splits["train"],
        features.splits["val"],
        prepared.partitions,
        draws,
        kept_heads,
    )


def find_winners(
    site: Site,
    placement: Placement,
    context: TrialContext,
    search: Search,
    budget: TimeBudget,
    checkpoints: KeptCheckpoints,
) -> dict[Cell, Winner]:
    """Run the search; return the winners, which from here on are fixed."""
    experiment, directory, machines = site.prepared.experiment, site.directory, site.machines
    progress = Progress(search, budget, site.watch)
    scratch = directory.path.absolute() / "ray"  # Tune's own files, which nobody needs afterwards
    with site.watch.timed("search"), contextlib.closing(progress), _logged(site):
        run_tuner(
            search,
            context,
            checkpoints=checkpoints,
            scratch=scratch,
            placement=placement,
            slots=machines.cluster.slots,
            spare=int(machines.cluster.grows),
            callbacks=[progress],
            patience=experiment.resources.report_seconds,
            admission=machines.admission,
            barred=machines.barred,
        )
    shutil.rmtree(scratch, ignore_errors=True)
    winners = search.winners()
    for winner in winners.values():
        site.journal.write(winner)
    directory.write_winners(winners, experiment.probe)
    IMPORTANCE.write(directory.path, importances(experiment, search.cells))
    return winners


@contextlib.contextmanager
def _logged(site: Site) -> Iterator[None]:
    """Log the trials of the block wherever the experiment says."""
    experiment, run_dir = site.prepared.experiment, site.directory.path
    with contextlib.ExitStack() as stack:
        for name in dict.fromkeys(experiment.loggers):
            run = read_recorded(run_dir)[1]["run"][:8]
            log = TrialLog(name, experiment, run_dir, run, site.watch.print)
            site.journal.subscribe(log.take)
            stack.callback(log.close)
        yield


def make_test_features(
    site: Site, boundaries: Sequence[str]
) -> tuple[dict[str, SharedSplit], dict[str, SplitContent]]:
    """Make the features of all test sets, and list their images.

    This is the first time that a run looks at a test image.

    Returns:
        The features of the test sets, and their images.
    """
    shared: dict[str, SharedSplit] = {}
    contents: dict[str, SplitContent] = {}
    with site.watch.timed("test features"):
        for name, test in site.prepared.dataset.tests.items():
            made = _features(site, {name: test.split}, boundaries, test.source)
            _say_skipped(site, made)
            read = {name: made.contents[name].digest}
            site.directory.check_images(read, site.events)
            site.journal.write(ImagesRead(read))
            shared |= made.splits
            contents |= made.contents
    dataset = site.prepared.dataset
    tests = {name: content.split for name, content in contents.items()}
    site.directory.write_test_images(tests, dataset.classes)
    # A run may use few of a class's training images: these are all that there are.
    listed = {"train": dataset.train, "val": dataset.val, TEST: dataset.tests[TEST].split}
    site.directory.write_classes(listed, dataset.classes)
    return shared, contents


def score_winners(
    site: Site,
    context: TrialContext,
    search: Search,
    budget: TimeBudget,
    checkpoints: KeptCheckpoints,
    winners: Mapping[Cell, Winner],
    seen: Mapping[str, SplitContent],
    duplicates: DuplicateSearch,
) -> None:
    """Refit the winners over their seeds, score each fit once on the test sets, and audit labels.

    The first seed goes on from the checkpoint of the winner's trial. `seen` are the images of
    train and validation, which are among `duplicates` already.
    """
    run_dir, export = site.directory.path, site.prepared.experiment.final.export
    wanted = final_fits_of(site.prepared, winners)
    missing = pending(wanted, run_dir, export)
    audits = lacks_audit(site.prepared, site.directory)
    if missing or audits or not site.directory.lists_images:
        boundaries = {context.boundary(Recipe(**fit.config)) for fit in wanted}
        boundaries |= {HEAD} if audits else set()
        # A list of before says nothing of images that are compared now.
        (run_dir / DUPLICATES.file).unlink(missing_ok=True)
        with site.machines.pool:
            tests, contents = make_test_features(site, sorted(boundaries))
            duplicates.compare(contents)
            # Only now: if the test images are refused, the results that are there stay.
            discard_others(wanted, run_dir)
            worker = FinalFitWorker(context, tests, checkpoints.folder)
            with site.watch.timed("final fits"):
                _fit_missing(site, worker, search, budget, wanted, missing)
            if audits and budget.over():
                site.watch.print("label audit: no time is left; --resume makes it")
            elif audits:
                splits = {"train": context.train, "val": context.val, TEST: tests[TEST]}
                _audit(site, splits, {**seen, **contents})
            if (found := duplicates.result(budget.remaining())) is not None:
                DUPLICATES.write(run_dir, found)
    else:
        discard_others(wanted, run_dir)
    if left := pending(missing, run_dir, export):
        site.watch.print(
            f"{len(left)} of {len(wanted)} final fits are not made; --resume makes them"
        )
    else:
        checkpoints.release()


def _fit_missing(
    site: Site,
    worker: FinalFitWorker,
    search: Search,
    budget: TimeBudget,
    wanted: Sequence[FinalFitJob],
    missing: Sequence[FinalFitJob],
) -> None:
    """Make the missing fits, as far as time allows, and record those that fail."""
    run_dir = site.directory.path
    # The first seed of every winner is always fitted, so that the table has no hole.
    in_time = filter(lambda fit: fit.seed == 0 or budget.allows(search, fit.cell), missing)
    left = Counter({fit.cell: 0 for fit in wanted})
    left.update(fit.cell for fit in missing)
    spent = spent_on((fit for fit in wanted if fit not in missing), run_dir)
    with site.watch.final_fits(search, budget, left, spent) as ended:
        for fit, seconds, failure in run_final_fits(in_time, worker, run_dir, site.machines.pool):
            ended(fit.cell, seconds, failure is None)
            if failure:
                site.journal.write(FinalFitFailed(fit.cell, fit.seed, failure))
                site.watch.print(f"final fit of {fit.cell}, seed {fit.seed}: {failure}")


def lacks_audit(prepared: Prepared, directory: RunDirectory) -> bool:
    """Whether labels are still to be audited."""
    return prepared.audits and not (directory.path / LABEL_ISSUES.file).exists()


def _audit(
    site: Site,
    splits: Mapping[str, SharedSplit],
    contents: Mapping[str, SplitContent],
) -> None:
    """List images whose label is probably wrong; a run whose audit fails goes on without it."""
    experiment = site.prepared.experiment
    with site.watch.timed("label audit"):
        try:
            issues = audit_labels(
                {name: (split, contents[name].split) for name, split in splits.items()},
                site.prepared.dataset.classes,
                site.machines.pool,
                seed=experiment.seed,
                threads=max(1, int(experiment.resources.cpus_per_trial)),
                say=site.watch.print,
            )
        except InputError as error:
            site.watch.print(f"{error}; --resume makes the label audit again")
        else:
            LABEL_ISSUES.write(site.directory.path, issues)
