"""Every mistake is one line: file, key, what is wrong and what is allowed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InputError
from models.recipe import Recipe
from search_spaces import Experiment, load_experiment
from tests.search_spaces.written import SMALL, refused
from tests.tune.search.simulated import FROZEN

GROWING = "[&a0 [x], " + ", ".join(
    f"&a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)
)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        *(
            (f"{key}={GROWING}]", f"--set {key}: line 1, column ")
            for key in ("search.trials", "data.templates", "methods.llrd.space.lr", "name", "seed")
        ),
        ("search.trials=0x" + "f" * 6000, "line 1, column 1: an integer of more than 20 digits"),
        ("data.split_seed=0x" + "f" * 100, "line 1, column 1: an integer of more than 20 digits"),
        (
            "data.split_seed=0xffffffff",
            "data.split_seed: 4294967295 is too large. Allowed: below 21",
        ),
        ("a." * 100_000 + "b=1", "more than 40 keys inside one another"),
        ("a." * 30 + "b=1", "unknown key"),
        ("a" * 100_000, "expected key.path=value"),
        ("a" * 100_000 + "=1", "unknown key; allowed: name"),
        ("search.scheduler=" + "x" * 100_000, "unknown scheduler"),
        ("name=" + "x" * 100_000, "is too long. Allowed: 100 characters"),
        ("search.trials=[" + "1," * 9000 + "]", "is no whole number"),
        ("seed=" + "[" * 39 + "]" * 39, "is no whole number"),
    ],
    ids=lambda text: text[:40],
)
def test_what_grows_is_refused_at_once_and_briefly(file: Path, setting: str, message: str) -> None:
    began = time.process_time()
    line = refused(file, setting)
    assert time.process_time() - began < 5  # what grows would take minutes
    assert message in line
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (
            "seeed=1",
            "seeed: unknown key; did you mean 'seed'? allowed: name, seed, metric, data, model",
        ),
        ("data.sauce=x", "data.sauce: unknown key; did you mean 'source'? allowed: source, root"),
        ("data.columns.lable=x", "data.columns.lable: unknown key; did you mean 'label'?"),
        ("model.nam=x", "model.nam: unknown key; did you mean 'name'? allowed: name, pretrained"),
        ("search.trails=3", "search.trails: unknown key; did you mean 'trials'?"),
        ("search.asha.rung=3", "search.asha.rung: unknown key; did you mean 'rungs'?"),
        ("final.seed=3", "final.seed: unknown key; did you mean 'seeds'? allowed: seeds"),
        ("resources.gpu=1", "resources.gpu: unknown key; "),
        ("features.cash=x", "features.cash: unknown key; did you mean 'cache'?"),
        ("report.gian=x", "report.gian: unknown key; did you mean 'gain'? allowed: gain"),
        ("methods.llrd.spaces=3", "methods.llrd.spaces: unknown key; did you mean 'space'?"),
        (
            "methods.methods={space: {blocks: none}, trails: 3}",
            "methods.methods.trails: unknown key; did you mean 'trials'? allowed: space, default",
        ),
        (
            "methods.llrd.space.blocs=11",
            "methods.llrd.space.blocs: unknown parameter; did you mean 'blo",
        ),
        (
            "methods.llrd.space.lr={unifrom: [1, 2]}",
            "methods.llrd.space.lr: expected one distribution, got unifrom;",
        ),
        (
            "methods.llrd.default={llr: 1}",
            "methods.llrd.default: llr is not in the space; allowed: blocks",
        ),
        ("zzz=1", "zzz: unknown key; allowed: name, seed"),
        (
            "data.extra_tests={phone: {source: 'folder:/a', rot: /b}}",
            "data.extra_tests.phone.rot: unknown key; did you mean 'root'? allowed: source, root",
        ),
        (
            "data.extra_tests={phone: {source: 'csv:/a.csv', columns: {lable: x}}}",
            "data.extra_tests.phone.columns.lable: unknown key; did you mean 'label'?",
        ),
        ("data.extra_test={}", "data.extra_test: unknown key; did you mean 'extra_tests'?"),
        ("final.wise=[0.5]", "final.wise: unknown key; did you mean 'wise_ft'? allowed: seeds"),
        ("augmentation.flips=0", "augmentation.flips: unknown key; did you mean 'flip'?"),
        ("search.transfers=1", "search.transfers: unknown key; did you mean 'transfer'?"),
    ],
)
def test_a_misspelt_key_is_named_with_what_is_allowed(
    file: Path, setting: str, message: str
) -> None:
    line = refused(file, setting)
    whole = not message.startswith(setting.split("=")[0])  # told of the method it is in
    assert line.startswith(f"{file}: {message}" if whole else f"--set {message}")


def test_a_mistake_in_the_file_is_told_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "mistaken.yaml"
    path.write_text(yaml.safe_dump({**SMALL, "final": {"seeds": 0}}))
    line = refused(path, "search.trials=3", overrides={"seed": 1}, trials=4)
    assert line.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed=many", "seed: 'many' is no whole number. Allowed: one such as 3"),
        ("seed=-1", "seed: -1 is too small. Allowed: 0 or more"),
        ("seed=2147483648", "seed: 2147483648 is too large. Allowed: below 2147483648"),
        ("name=a/b", "name: 'a/b' is no name of a run. Allowed: letters, digits, '.'"),
        ("name=..", "name: '..' is no name of a run. Allowed: letters, digits, '.',"),
        ("search.trials=0", "search.trials: 0 is too small. Allowed: 1 or more"),
        ("search.trials=2.5", "search.trials: 2.5 is no whole number. Allowed: one such as 3"),
        ("search.samples=.inf", "search.samples: inf is not finite. Allowed: other numbers"),
        ("search.evaluations=0", "search.evaluations: 0 is too small. Allowed: 1 or more"),
        ("search.asha.rungs=11", "search.asha.rungs: 11 is too large. Allowed: 10 or less"),
        (
            "search.asha.reduction_factor=1",
            "search.asha.reduction_factor: 1 is too small. Allowed: 2 or more",
        ),
        ("search.scheduler=pbt", "search.scheduler: 'pbt': unknown scheduler; allowed: asha, "),
        ("search.asha.rung=2", "search.asha.rung: unknown key; did you mean 'rungs'?"),
        ("search.ashas.rungs=2", "search.ashas.rungs: unknown key; did you mean 'asha'? allowed:"),
        ("search.sampler=grid", "search.sampler: 'grid' is unknown. Allowed: 'tpe' or 'random'"),
        ("search=", "search: null has no keys. Allowed: keys and values"),
        ("final.seeds=0", "final.seeds: 0 is no number of seeds; allowed: 1 to 100, or auto"),
        ("final.seeds=101", "final.seeds: 101 is no number of seeds; allowed: 1 to 100, or auto"),
        (
            "resources.gpus_per_trial=0",
            "resources.gpus_per_trial: 0 is no share of a GPU; allowed: above 0 to 1, or auto",
        ),
        (
            "resources.gpus_per_trial=2",
            "resources.gpus_per_trial: 2 is no share of a GPU; allowed: above 0 to 1, or auto",
        ),
        (
            "resources.gpus_per_trial=.inf",
            "resources.gpus_per_trial: inf is no share of a GPU; allowed: above 0 to 1, or auto",
        ),
        (
            "resources.cpus_per_trial=.inf",
            "resources.cpus_per_trial: inf is not finite. Allowed: other nu",
        ),
        (
            "resources.cpus_per_trial=.nan",
            "resources.cpus_per_trial: nan is not finite. Allowed: other nu",
        ),
        ("features.dtype=int8", "features.dtype: 'int8' is unknown. Allowed: 'float32' or 'floa"),
        ("features.batch_size=0", "features.batch_size: 0 is too small. Allowed: 1 or more"),
        ("data.partitions=[10, 5]", "data.partitions: partitions must be one or more increasing"),
        (
            "data.partitions=[33.3333333]",
            "data.partitions: 33.3333333 has more than six significant digits",
        ),
        ("data.source=photos", "data.source: unknown source 'photos'; allowed: digits"),
        ("report.gain=lllrd", "report.gain: no method 'lllrd'; allowed: frozen, llrd, fixed"),
        ("final.wise_ft=[0.5, 0]", "final.wise_ft: 0 is not between 0 and 1, both excluded"),
        ("final.wise_ft=[1]", "final.wise_ft: 1 is not between 0 and 1, both excluded"),
        ("final.wise_ft=[-0.5]", "final.wise_ft: -0.5 is not between 0 and 1, both excluded"),
        ("final.wise_ft=[.nan]", "final.wise_ft.0: nan is not finite. Allowed: other numbers"),
        ("data.max_unreadable=.nan", "data.max_unreadable: nan is not finite. Allowed: other"),
        ("search.trials=true", "search.trials: true is no whole number. Allowed: one such as 3"),
        ("data.partitions=[true]", "data.partitions: true is no number"),
        ("final.seeds=null", "final.seeds: null is no number of seeds; allowed: 1 to 100, or auto"),
        ("search.asha.rungs=true", "search.asha.rungs: true is no whole number. Allowed: one such"),
        ("methods.llrd.space.lora_rank=true", "methods.llrd.space.lora_rank: true is no whole"),
        ("resources.report_seconds=1e-9", "resources.report_seconds: 1e-09 is too small"),
        ("final.wise_ft=0.5", "final.wise_ft: 0.5 is no list. Allowed: one such as [a, b]"),
        ("final.ema=maybe", "final.ema: 'maybe' is neither true nor false. Allowed: true, f"),
        (
            "data.validation=half",
            "data.validation: 'half' is unknown. Allowed: 'full' or 'matched'",
        ),
        (
            "data.extra_tests={phone: {source: photos}}",
            "data.extra_tests.phone.source: unknown source 'photos'; allowed: digits",
        ),
        (
            "augmentation.scale=[1, 0.5]",
            "augmentation.scale: 1 to 0.5: the lesser value comes first",
        ),
        ("augmentation.scale=[0, 1]", "augmentation.scale.0: 0 is too small. Allowed: above 0"),
        ("search.transfer=-1", "search.transfer: -1 is too small. Allowed: 0 or more"),
        (
            "methods.llrd.space.solver=lbfgs",
            "methods.llrd.space.solver: lbfgs needs blocks: none; the space",
        ),
        (
            "methods.fixed.space.solver=none",
            "methods.fixed.space.solver: none needs blocks: none; the space",
        ),
        (
            "methods.frozen.space.solver=none",
            "methods.frozen.space.solver: none needs head_start: zero_shot;",
        ),
        (
            "methods.fixed.space.views=-1",
            "methods.fixed.space.views: -1 is too small. Allowed: 0 or more",
        ),
        (
            "methods.fixed.space.head_start=text",
            "methods.fixed.space.head_start: 'text' is unknown. Allowed: 'p",
        ),
        ("methods={}", "methods: {} has too few entries. Allowed: 1 or more"),
        (f"methods={{{'m' * 65}: {{space: {{blocks: none}}}}}}", "- only, 64 at most"),
        (f"name={'n' * 101}", "name: 'nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn...nnnnnnnnnnnnnnn"),
        ("methods={a b: {space: {blocks: none}}}", "methods: 'a b': letters, digits, _ and - only"),
        ("methods.llrd=", "methods.llrd: null has no keys. Allowed: keys and values"),
        ("methods.llrd.space={}", "methods.llrd.space: is empty; name at least `blocks`"),
        ("methods.llrd.trials=0", "methods.llrd.trials: 0 is too small. Allowed: 1 or more"),
        ("methods.llrd.space.lr=0", "methods.llrd.space.lr: 0 is too small. Allowed: above 0"),
        ("methods.llrd.space.lr={uniform: [2, 1]}", "lr: uniform: [2, 1]: low must be below high"),
        ("methods.llrd.space.batch_size={uniform: [8, 16]}", "batch_size: uniform: [8, 16]: whole"),
        ("methods.frozen.space.blocks=11", "methods.frozen: several head_lr or weight_decay"),
        (
            "methods.llrd.space.1=2",
            "methods.llrd.space.1: unknown parameter; allowed: blocks, kind",
        ),
        (
            "methods={frozen: {space: {1: 2}}}",
            "methods.frozen.space.1: 1 is no text. Allowed: text;",
        ),
    ],
)
def test_an_impossible_value_is_refused_with_its_rule(
    file: Path, setting: str, message: str
) -> None:
    line = refused(file, setting)
    assert line.startswith((f"{file}: ", "--set "))
    assert message in line
    assert "Value error" not in line


def test_a_mistake_in_an_option_is_told_of_the_option(file: Path) -> None:
    line = refused(file, overrides={"data.partitions": [10, 1]})
    assert line.startswith("--partitions: partitions must be one or more increasing")
    assert refused(file, overrides={"seed": -1}) == "--seed: -1 is too small. Allowed: 0 or more"
    assert refused(file, trials=0) == "--trials: 0 is too small. Allowed: 1 or more"
    assert refused(file, "seed=-1") == "--set seed: -1 is too small. Allowed: 0 or more"
    line = refused(file, "methods.llrd.space.lr=0")
    assert line == "--set methods.llrd.space.lr: 0 is too small. Allowed: above 0"
    assert refused(file, "data={source: x, partitions: [0]}").startswith("--set data.source: ")


def test_the_first_of_several_mistakes_is_told_with_the_others_keys(file: Path) -> None:
    line = refused(file, "seed=-1", "final.seeds=0", "search.trials=0")
    assert line.endswith("0 or more (also wrong: search.trials, final.seeds)")
    more = ("data.split_seed=-1", "data.validation=x", "search.samples=0")
    line = refused(file, "seed=-1", "final.seeds=0", "search.trials=0", *more)
    assert line.endswith("(also wrong: data.split_seed, data.validation, search.trials, 2 more)")


def test_data_is_required(tmp_path: Path) -> None:
    path = tmp_path / "no_data.yaml"
    path.write_text(yaml.safe_dump({"methods": {"frozen": FROZEN}}))
    assert refused(path) == f"{path}: data: this key is missing"


# Whatever is in the file

KEYS = sorted(
    {
        *Experiment.model_fields,
        *Recipe.model_fields,
        "source",
        "space",
        "default",
        "trials",
        "asha",
        "choice",
        "uniform",
        "bank",
        "when",
        "otherwise",
        "quniform",
        "frozen",
        "partitions",
        "a\nb",
    }
)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.dates()
    | st.binary(max_size=3)
    | st.sampled_from(["none", "11-7", "probe", "digits", "1e-5"])
)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.integers() | st.text(max_size=3), inner, max_size=4
        )
    ),
    max_leaves=12,
)
sections = st.dictionaries(st.sampled_from(sorted(Experiment.model_fields)), trees, max_size=4)
parameters = st.dictionaries(st.sampled_from(sorted(Recipe.model_fields)), trees, max_size=4)
methods = st.fixed_dictionaries(
    {"space": parameters}, optional={"default": parameters, "trials": scalars}
)


def complaint(path: Path, *sets: str) -> str | None:
    """What is wrong, in one line, or None; any other exception fails the test."""
    line = None
    try:
        assert load_experiment(path, sets).methods
    except InputError as error:
        line = str(error)
    assert line is None or len(line.splitlines()) == 1, line
    return line


def check(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    line = complaint(path)
    assert line is None or line.startswith(str(path))


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet=st.sampled_from("ab:-[]{}&*!?|>'\"#%@,\n \t01.e_=<~")))
def test_any_text_is_an_experiment_or_refused(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    check(tmp_path_factory.getbasetemp() / "text.yaml", text)


@settings(max_examples=150, deadline=None)
@given(tree=trees | sections)
def test_any_tree_is_an_experiment_or_refused(
    tmp_path_factory: pytest.TempPathFactory, tree: Any
) -> None:
    check(tmp_path_factory.getbasetemp() / "tree.yaml", yaml.dump(tree))


@settings(max_examples=150, deadline=None)
@given(changes=sections, method=methods)
@pytest.mark.filterwarnings("ignore:The distribution is specified:UserWarning")
def test_any_section_or_method_is_an_experiment_or_refused(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], method: dict[str, Any]
) -> None:
    tree = {**SMALL, "methods": {"frozen": FROZEN, "some": method}, **changes}
    check(tmp_path_factory.getbasetemp() / "section.yaml", yaml.dump(tree))


@settings(max_examples=100, deadline=None)
@given(setting=st.text(max_size=20) | st.builds("{}={}".format, st.sampled_from(KEYS), st.text()))
def test_any_setting_is_taken_or_refused(
    tmp_path_factory: pytest.TempPathFactory, setting: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "setting.yaml"
    path.write_text(yaml.safe_dump(SMALL))
    complaint(path, setting)
