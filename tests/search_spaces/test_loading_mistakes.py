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
        ("data.split_seed=0xffffffff", "data.split_seed: Input should be less than 2147483648"),
        ("a." * 100_000 + "b=1", "more than 40 keys inside one another"),
        ("a." * 30 + "b=1", "a: unknown key"),
        ("a" * 100_000, "expected key.path=value"),
        ("a" * 100_000 + "=1", "unknown key; allowed: name"),
        ("search.scheduler=" + "x" * 100_000, "unknown scheduler"),
        ("name=" + "x" * 100_000, "name: String should have at most 100 characters, got 'xxxx"),
        ("search.trials=[" + "1," * 9000 + "]", "search.trials: Input should be a valid integer"),
        ("seed=" + "[" * 39 + "]" * 39, "seed: Input should be a valid integer, got"),
    ],
    ids=lambda text: text[:40],
)
def test_what_grows_is_refused_at_once_and_briefly(file: Path, setting: str, message: str) -> None:
    began = time.process_time()
    line = refused(file, setting)
    assert time.process_time() - began < 1
    assert message in line
    assert len(line) < 1000


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seeed=1", "seeed: unknown key; did you mean 'seed'? allowed: name, seed, data, model"),
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
        ("methods.llrd.space.blocs=11", "methods.llrd: blocs: unknown parameter; did you mean"),
        ("methods.llrd.space.lr={unifrom: [1, 2]}", "methods.llrd: lr: expected one distribution"),
        ("methods.llrd.default={llr: 1}", "methods.llrd: default: llr is not in the space"),
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
        ("seed=many", "seed: Input should be a valid integer"),
        ("seed=-1", "seed: Input should be greater than or equal to 0, got -1"),
        ("seed=2147483648", "seed: Input should be less than 2147483648"),
        ("name=a/b", "name: String should match pattern"),
        ("name=..", "name: String should match pattern"),
        ("search.trials=0", "search.trials: Input should be greater than or equal to 1, got 0"),
        ("search.trials=2.5", "search.trials: Input should be a valid integer"),
        ("search.samples=.inf", "search.samples: Input should be a finite number"),
        ("search.evaluations=0", "search.evaluations: Input should be greater than or equal to 1"),
        ("search.asha.rungs=11", "search.asha.rungs: Input should be less than or equal to 10"),
        ("search.asha.reduction_factor=1", "search.asha.reduction_factor: Input should be greater"),
        ("search.scheduler=pbt", "search.scheduler: 'pbt': unknown scheduler; allowed: asha, "),
        ("search.asha.rung=2", "search.asha.rung: unknown key; did you mean 'rungs'?"),
        ("search.ashas.rungs=2", "search.ashas: unknown key; did you mean 'asha'?"),
        ("search.sampler=grid", "search.sampler: Input should be 'tpe' or 'random', got 'grid'"),
        ("search=", "search: expected keys and values"),
        ("final.seeds=0", "final.seeds: Input should be greater than or equal to 1"),
        ("final.seeds=101", "final.seeds: Input should be less than or equal to 100"),
        ("resources.gpus_per_trial=0", "resources.gpus_per_trial: Input should be greater than 0"),
        ("resources.gpus_per_trial=2", "gpus_per_trial: Input should be less than or equal to 1"),
        ("resources.gpus_per_trial=.inf", "resources.gpus_per_trial: Input should be a finite"),
        ("resources.cpus_per_trial=.inf", "resources.cpus_per_trial: Input should be a finite"),
        ("resources.cpus_per_trial=.nan", "resources.cpus_per_trial: Input should be a finite"),
        ("features.dtype=int8", "features.dtype: Input should be 'float32' or 'float16'"),
        ("features.batch_size=0", "features.batch_size: Input should be greater than or equal"),
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
        ("final.wise_ft=[.nan]", "final.wise_ft: nan is not between 0 and 1, both excluded"),
        ("final.wise_ft=0.5", "final.wise_ft: expected a list, as in [a, b], got 0.5"),
        ("final.ema=maybe", "final.ema: Input should be a valid boolean"),
        ("data.validation=half", "data.validation: Input should be 'full' or 'matched'"),
        (
            "data.extra_tests={phone: {source: photos}}",
            "data.extra_tests.phone.source: unknown source 'photos'; allowed: digits",
        ),
        ("augmentation.scale=[1, 0.5]", "augmentation: scale: 1 to 0.5: the lesser value comes"),
        ("augmentation.scale=[0, 1]", "augmentation.scale.0: Input should be greater than 0"),
        ("search.transfer=-1", "search.transfer: Input should be greater than or equal to 0"),
        (
            "methods.llrd.space.solver=lbfgs",
            "methods.llrd: solver: lbfgs needs blocks: none; the space allows blocks: 11-7, ",
        ),
        (
            "methods.fixed.space.solver=none",
            "methods.fixed: solver: none needs blocks: none; the space allows blocks: 11, ",
        ),
        (
            "methods.frozen.space.solver=none",
            "methods.frozen: solver: none needs head_start: zero_shot; ",
        ),
        ("methods.fixed.space.views=-1", "methods.fixed: views: -1: Input should be greater than"),
        ("methods.fixed.space.head_start=text", "methods.fixed: head_start: 'text': Input should"),
        ("methods={}", "methods: Dictionary should have at least 1 item"),
        (f"methods={{{'m' * 65}: {{space: {{blocks: none}}}}}}", "- only, 64 at most"),
        (f"name={'n' * 101}", "name: String should have at most 100 characters"),
        ("methods={a b: {space: {blocks: none}}}", "methods: 'a b': letters, digits, _ and - only"),
        ("methods.llrd=", "methods.llrd: expected keys and values"),
        ("methods.llrd.space={}", "methods.llrd: space: is empty; name at least `blocks`"),
        ("methods.llrd.trials=0", "methods.llrd.trials: Input should be greater than or equal"),
        ("methods.llrd.space.lr=0", "methods.llrd: lr: 0: Input should be greater than 0"),
        ("methods.llrd.space.lr={uniform: [2, 1]}", "lr: uniform: [2, 1]: low must be below high"),
        ("methods.llrd.space.batch_size={uniform: [8, 16]}", "batch_size: uniform: [8, 16]: whole"),
        ("methods.frozen.space.blocks=11", "methods.frozen: several head_lr or weight_decay"),
        ("methods.llrd.space.1=2", "methods.llrd: 1: unknown parameter"),
        ("methods={frozen: {space: {1: 2}}}", "Input should be a valid string, got 1"),
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
    assert refused(file, overrides={"seed": -1}).startswith("--seed: Input should be greater")
    assert refused(file, trials=0).startswith("--trials: Input should be greater")
    assert refused(file, "seed=-1").startswith("--set seed: Input should be greater")
    assert refused(file, "data={source: x, partitions: [0]}").startswith("--set data.source: ")


def test_the_first_of_several_mistakes_is_told_with_their_number(file: Path) -> None:
    line = refused(file, "seed=-1", "final.seeds=0", "search.trials=0")
    assert line.endswith("(and 2 more)")


def test_data_is_required(tmp_path: Path) -> None:
    path = tmp_path / "no_data.yaml"
    path.write_text(yaml.safe_dump({"methods": {"frozen": FROZEN}}))
    assert refused(path) == f"{path}: data: Field required"


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
