"""Whether a directory may be used, and whether a run in it may be continued."""

from __future__ import annotations

import dataclasses
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from data import DataConfig, Dataset, Split, TestSet, load_dataset
from errors import InputError
from records import (
    Cell,
    ImagesRead,
    JournalWriter,
    PrecisionChosen,
    RunStarted,
    TrialStarted,
    Winner,
)
from records.journal import journal_line
from search_spaces import Experiment, load_experiment
from tests.tune.search.simulated import FIXED, FROZEN, LLRD, ZEROS, experiment
from tune.run_dir import RunDirectory, identity
from yaml_files import read_yaml

IDENTITY = {"model": "aaa", "data": "bbb"}
METHODS = {"frozen": FROZEN, "llrd": LLRD, "fixed": FIXED}


def changed(*settings: str, **options: Any) -> Experiment:
    """The simulated experiment with `key=value` changes."""
    tree = experiment(**options).resolved()
    for setting in settings:
        key, _, value = setting.partition("=")
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node[parent]
        node[last] = read_yaml(value, "here")
    return Experiment.model_validate(tree)


def record(path: Path, spec: Experiment, identity: dict[str, str] = IDENTITY) -> None:
    directory = RunDirectory(path, resume=True)
    resolved = directory.resolved(spec, identity)
    with closing(JournalWriter(directory.journal)) as journal:
        journal.write(RunStarted(bool(directory.events), spec.seed, resolved["identity"], {}))
    directory.record(resolved)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A directory that holds a run."""
    path = tmp_path / "run"
    record(path, experiment())
    begin(path)
    return path


def begin(path: Path) -> None:
    """Start a trial: from then on there is something to lose."""
    with closing(JournalWriter(path / "events.jsonl")) as journal:
        journal.write(TrialStarted(Cell(10, "frozen"), 0, "default", {}, None))


# Whether a directory may be used


def test_a_new_directory_is_made(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "a" / "b", resume=False)
    assert directory.path.is_dir()
    assert not directory.journal.exists()


def test_a_run_is_not_overwritten(run: Path) -> None:
    with pytest.raises(InputError, match="already holds a run; --resume continues it") as error:
        RunDirectory(run, resume=False)
    assert "\n" not in str(error.value)


def test_a_run_refused_before_its_first_trial_is_none(run: Path) -> None:
    first, *_ = (run / "events.jsonl").read_text().splitlines(keepends=True)
    (run / "events.jsonl").write_text(first)
    directory = RunDirectory(run, resume=False)
    directory.record(directory.resolved(changed("seed=7"), IDENTITY))


def test_a_run_is_worked_on_by_one_process(run: Path) -> None:
    first, second = RunDirectory.locked(run, True), RunDirectory.locked(run, True)
    with first, pytest.raises(InputError, match="another process"), second:
        pass
    with RunDirectory.locked(run, True) as directory:
        assert [type(event) for event in directory.events] == [RunStarted, TrialStarted]


def test_a_method_left_out_comes_back_as_it_was_or_not_at_all(run: Path) -> None:
    whole = experiment().resolved()
    fewer = {**whole, "methods": {k: m for k, m in whole["methods"].items() if k == "frozen"}}
    record(run, Experiment.model_validate(fewer))
    record(run, experiment())
    record(run, Experiment.model_validate(fewer))
    (other,) = (name for name in whole["methods"] if name == "llrd")
    whole["methods"][other]["samples"] = 12345
    with pytest.raises(InputError, match=rf"methods\.{other}\.samples"):
        record(run, Experiment.model_validate(whole))


@pytest.mark.parametrize("resume", [True, False])
def test_an_empty_directory_may_be_resumed_or_begun(tmp_path: Path, resume: bool) -> None:
    directory = RunDirectory(tmp_path, resume)
    directory.record(directory.resolved(experiment(), IDENTITY))
    assert (tmp_path / "experiment.yaml").exists()


def test_a_run_killed_before_it_was_recorded_may_be_resumed(tmp_path: Path) -> None:
    (tmp_path / "events.jsonl").touch()
    record(tmp_path, changed("seed=7"))
    (tmp_path / "experiment.yaml").write_text("")
    record(tmp_path, changed("seed=8"))


def test_a_place_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file" / "run", tmp_path / ("n" * 300)):
        with pytest.raises(InputError, match=r"^--out: cannot write to") as error:
            RunDirectory(path, resume=False)
        assert "\n" not in str(error.value)


# Whether a run may be continued


def test_experiment_yaml_is_a_search_space_again(run: Path) -> None:
    tree = yaml.safe_load((run / "experiment.yaml").read_text())
    assert tree["identity"].keys() == {"run", *IDENTITY}
    assert tree.pop("identity").items() > IDENTITY.items()
    copy = run / "copy.yaml"
    copy.write_text(yaml.safe_dump(tree))
    assert load_experiment(copy).resolved() == experiment().resolved()


EXTENSIONS: dict[str, Experiment] = {
    "nothing": experiment(),
    "trials": changed("search.trials=9"),
    "trials of a method": changed("methods.llrd.trials=9", "methods.frozen.trials=1"),
    "partitions": experiment(partitions=(1, 10, 50, 100)),
    "fewer partitions": experiment(partitions=(100,)),
    "a method": experiment(methods={"zeros": ZEROS, **METHODS}),
    "fewer methods": experiment(methods={"frozen": FROZEN, "fixed": FIXED}),
    "a method instead of another": experiment(methods={"frozen": FROZEN, "zeros": ZEROS}),
    "final seeds": changed("final.seeds=9"),
    "what is tried after training": changed("final.ema=false", "final.wise_ft=[]"),
    "weights to keep": changed("final.export=false"),
    "an extra test": changed("data.extra_tests={phone: {source: 'folder:/phone'}}"),
    "resources": changed("resources.cpus_per_trial=2"),
    "cache": changed("features.cache=/a", "features.local=/b", "features.batch_size=1"),
    "unreadable": changed("data.max_unreadable=0.5"),
    "gain": changed("report.gain=llrd"),
    "name": changed("name=other"),
    "photos that moved": changed("data.source=folder:/photos", "data.class_names=/names.yaml"),
    "a table that moved": changed("data.source=csv:/photos.csv", "data.root=/photos"),
    "a model that moved": changed("model.name=ViT-B-32", "model.pretrained=/weights.pt"),
}


@pytest.mark.parametrize("extension", EXTENSIONS.values(), ids=EXTENSIONS)
def test_what_adds_to_a_run_may_change(run: Path, extension: Experiment) -> None:
    record(run, extension)
    tree = yaml.safe_load((run / "experiment.yaml").read_text())
    assert tree.items() > extension.resolved().items()
    record(run, extension)


@pytest.mark.parametrize(
    ("setting", "key"),
    [
        ("seed=1", "seed is 1"),
        ("data.split_seed=1", "data.split_seed is 1"),
        ("data.val_fraction=0.5", "data.val_fraction is 0.5"),
        ("data.validation=matched", "data.validation is 'matched'"),
        ("data.templates=['a {}']", "data.templates is ['a {}']"),
        ("augmentation.flip=0.1", "augmentation.flip is 0.1"),
        ("search.transfer=2", "search.transfer is 2"),
        ("model.precision=float32", "model.precision is 'float32'"),
        ("search.samples=91", "search.samples is 91"),
        ("search.evaluations=4", "search.evaluations is 4"),
        ("search.scheduler=none", "search.scheduler is 'none'"),
        ("search.sampler=tpe", "search.sampler is 'tpe'"),
        ("search.asha.rungs=2", "search.asha.rungs is 2"),
        ("features.dtype=float16", "features.dtype is 'float16'"),
        ("methods.llrd.samples=91", "methods.llrd.samples is 91"),
        ("methods.llrd.default={lr: 2e-3}", "methods.llrd.default.lr is 0.002"),
        ("methods.llrd.default={}", "methods.llrd.default is {}"),
        ("methods.fixed.space.lr=2e-4", "methods.fixed.space.lr is 0.0002"),
        ("methods.fixed.space.warmup=0.1", "methods.fixed.space.warmup is 0.1"),
        ("methods.llrd.space.blocks.choice=[11-7, all]", "methods.llrd.space.blocks.choice is ["),
        ("methods.llrd.space.llrd_decay=1.0", "methods.llrd.space.llrd_decay is 1.0"),
    ],
)
def test_what_results_rest_on_may_not_change(run: Path, setting: str, key: str) -> None:
    before = (run / "experiment.yaml").read_bytes()
    with pytest.raises(InputError) as error:
        record(run, changed(setting))
    message = str(error.value)
    assert message.startswith(f"--resume: {key}")
    assert f"but {run} was made with" in message
    assert "allowed to change: trials, partitions, shots, methods, final seeds" in message
    assert len(message.splitlines()) == 1
    assert (run / "experiment.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("model", "the encoder's weights or its preprocessing are not those"),
        ("data", "the images, their classes, groups or splits are not those"),
        ("text", "the weights of the text tower or its tokenizer are not those"),
    ],
)
def test_other_weights_or_images_are_refused(run: Path, key: str, words: str) -> None:
    record(run, experiment(), {**IDENTITY, "text": "ccc"})  # a method needs it, and then none does
    record(run, experiment())
    with pytest.raises(InputError, match=f"^--resume: {words}"):
        record(run, experiment(), {**IDENTITY, key: "other"})


def test_a_run_that_imported_code_does_not_go_on_without_it(tmp_path: Path) -> None:
    run = tmp_path / "with code"
    record(run, experiment(), {**IDENTITY, "code": "ddd"})
    begin(run)
    with pytest.raises(InputError, match=r"^--resume: the files that --import runs are not those"):
        record(run, experiment())
    record(run, experiment(), {**IDENTITY, "code": "ddd"})


def test_identity_follows_from_classes_splits_and_weights() -> None:
    def of(**settings: Any) -> dict[str, str]:
        return identity(load_dataset(DataConfig(source="digits", **settings)), "weights")

    assert of() == of(partitions=[5], max_unreadable=0.5)
    assert of()["model"] == "weights"
    assert len({of()["data"], of(split_seed=1)["data"], of(val_fraction=0.3)["data"]}) == 3


def test_identity_follows_from_groups_where_there_are_some() -> None:
    digits = load_dataset(DataConfig(source="digits"))

    def grouped(split: Split, size: int) -> Split:
        groups = tuple(str(row // size) for row in range(len(split)))
        return dataclasses.replace(split, groups=groups)

    def changed(**splits: Split) -> Dataset:
        return dataclasses.replace(digits, **splits)

    # A value on record: a run of the same data is resumed by another version.
    before = "b6b922787b4f773e6d5473d0c64200c1e747065b4dab933f656f06b93fba8a21"
    assert identity(digits, "")["data"] == before
    train, val, test = digits.train, digits.val, digits.tests["test"]
    others = [changed(train=grouped(train, size)) for size in (5, 6)]
    others.append(changed(val=grouped(val, 5)))
    assert len({before, *(identity(other, "")["data"] for other in others)}) == 4
    tests = {"test": TestSet(grouped(test.split, 5), test.source)}
    other = dataclasses.replace(digits, tests=tests)
    assert identity(other, "")["data"] == before  # the search does not depend on them
    assert other.scored_digest != digits.scored_digest


def test_a_run_is_not_resumed_with_other_images(run: Path) -> None:
    was = {"10/seed0": "aaa", "10/seed1": "bbb"}
    told = [RunStarted(False, 0, {}, {}), ImagesRead(was)]
    directory = RunDirectory(run, True)
    directory.check_images(was, told)
    directory.check_images(was, [])  # killed before it could tell
    directory.check_images({"test": "ddd"}, told)  # not looked at before
    later = [*told, ImagesRead({"test": "ddd"})]
    directory.check_images(was, later)
    with pytest.raises(InputError, match=r"^--resume: test images have changed"):
        directory.check_images({"test": "eee"}, later)
    with pytest.raises(InputError, match=r"^--resume: train or val images have changed"):
        directory.check_images({**was, "10/seed1": "ccc"}, later)


def test_fits_that_others_are_added_to_rest_on_their_own_images(run: Path) -> None:
    told = [ImagesRead({"10/seed0": "aaa"}), ImagesRead({"50/seed0": "bbb"})]
    directory = RunDirectory(run, True)
    directory.check_images({"10/seed0": "aaa", "20/seed0": "ccc"}, told)
    with pytest.raises(InputError, match="train or val images have changed"):
        directory.check_images({"10/seed0": "ddd", "50/seed0": "bbb"}, told)


@pytest.mark.parametrize("table", ["label_issues.csv", "duplicates.csv"])
def test_images_are_looked_at_again_if_there_are_more(run: Path, table: str) -> None:
    told = [ImagesRead({"10/seed0": "aaa"}), ImagesRead({"test": "ddd"})]
    directory, audit = RunDirectory(run, True), run / table
    audit.touch()
    directory.forget_lists({"10/seed0": "aaa"}, told)
    assert audit.exists()
    directory.forget_lists({"10/seed0": "aaa", "10/seed1": "bbb"}, told)
    assert not audit.exists()


def test_a_run_whose_partitions_were_drawn_from_readable_images_is_not_resumed(run: Path) -> None:
    """An earlier version's, whose journal names the images of train."""
    with (run / "events.jsonl").open("a") as journal:
        journal.write(journal_line(ImagesRead({"train": "aaa", "val": "bbb"})))
    with pytest.raises(InputError, match=r"^--resume: an earlier version made .*--name"):
        RunDirectory(run, True)


def test_a_run_goes_on_in_the_precision_that_it_began_in(tmp_path: Path, run: Path) -> None:
    """`auto` means another on other devices, and scores of the two are not to be compared."""
    told = [PrecisionChosen("bfloat16")]
    RunDirectory(tmp_path / "new", True).check_precision("float16", told)  # no trial had begun
    directory = RunDirectory(run, True)
    directory.check_precision("bfloat16", told)
    directory.check_precision("float16", [])  # from before it was told
    with pytest.raises(InputError, match=r"^--resume: .* was made in bfloat16, and .* is float16"):
        directory.check_precision("float16", told)


def test_a_run_refused_before_its_first_trial_may_change_its_images(tmp_path: Path) -> None:
    told = [ImagesRead({"10/seed0": "aaa"})]
    RunDirectory(tmp_path, True).check_images({"10/seed0": "ccc"}, told)


def test_nothing_temporary_is_left(run: Path) -> None:
    won = Winner(
        Cell(1, "frozen"), 3, 2 / 3, 90, "tuned", {"blocks": "none"}, {"blocks": "none"}, None
    )
    RunDirectory(run, True).write_winners({won.cell: won}, "frozen")
    names = {path.name for path in run.iterdir()}
    assert names == {"experiment.yaml", "best_configs.yaml", "events.jsonl"}


@pytest.mark.parametrize("content", [None, "", "set,key\n", "set,key,label,group\n"])
def test_a_list_of_test_images_that_is_gone_or_damaged_is_made_again(
    run: Path, content: str | None
) -> None:
    if content is not None:
        (run / "test_images.csv").write_text(content)
    assert not RunDirectory(run, resume=True).lists_images
    (run / "test_images.csv").write_text("set,key,label,group\ntest,a.png,1,\n")
    assert not RunDirectory(run, resume=True).lists_images  # killed before duplicates were found
    (run / "duplicates.csv").touch()
    assert RunDirectory(run, resume=True).lists_images
