from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import InputError
from models.recipe import Recipe
from tests.tune.simulation import FIXED, FROZEN, LLRD, ZEROS
from tune.experiment import Experiment, load_experiment, read_yaml

SPACES = Path(__file__).resolve().parents[2] / "search_spaces"
SMALL = {
    "data": {"source": "digits"},
    "methods": {"frozen": FROZEN, "llrd": LLRD, "fixed": FIXED},
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SMALL, sort_keys=False))
    return path


def refused(path: Path, *sets: str, **options: Any) -> str:
    """The one line that says why."""
    with pytest.raises(InputError) as error:
        load_experiment(path, sets, **options)
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


# Files


@pytest.mark.parametrize("path", sorted(SPACES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_shipped_space_loads(path: Path) -> None:
    experiment = load_experiment(path)
    assert experiment.name == path.stem
    assert experiment.probe is not None
    for method in experiment.methods.values():
        Recipe(**method.parsed.first())
    assert yaml.safe_load(yaml.safe_dump(experiment.resolved())) == experiment.resolved()


def test_the_default_is_the_table_of_the_readme() -> None:
    experiment = load_experiment(SPACES / "digits.yaml")
    assert list(experiment.methods) == ["frozen", "llrd", "seed_llrd"]
    assert experiment.probe == "frozen"
    assert experiment.trials("seed_llrd") == 1
    first = experiment.methods["llrd"].parsed.first()
    assert (first["blocks"], first["lr"], first["llrd_decay"]) == ("11-7", 1e-3, 0.8)


def test_a_file_without_a_name_gives_its_own(file: Path) -> None:
    assert load_experiment(file).name == "small"


def test_resolved_values_are_the_experiment_again(file: Path) -> None:
    experiment = load_experiment(file)
    assert Experiment.model_validate(experiment.resolved()).resolved() == experiment.resolved()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected keys and values such as `name: food`, got None"),
        ("- a\n- b", "expected keys and values such as `name: food`, got ['a', 'b']"),
        ("a: [1, 2", "line 1, column 9: not YAML: expected ',' or ']'"),
        ("a: 1\n\tb: 2", "line 2, column 1: not YAML: found character '\\t'"),
        ("a: 1\n---\nb: 2", "line 2, column 1: not YAML: but found another document"),
        ("a: *nowhere", "line 1, column 4: not YAML: found undefined alias"),
        ("{[1]: 2}", "not YAML: found unhashable key"),
        ("a: !!python/object:os.system {}", "not YAML: could not determine a constructor"),
        ("a: !x%0Ay 1", "not YAML: could not determine a constructor for the tag '!x\\ny'"),
        ("a: \x00", "not YAML: unacceptable character"),
        ("a: 2001-13-01", "not YAML: a value cannot be read (month must be in 1..12)"),
        ("a: 0b_", "not YAML: a value cannot be read (invalid literal"),
        ("a: !!int ''", "not YAML: a value cannot be read"),
        ("a: !!bool x", "not YAML: a value cannot be read"),
        ("a: !!timestamp x", "not YAML: a value cannot be read"),
        ("a: " + "1" * 5000, "not YAML: a value cannot be read (Exceeds the limit"),
        ("[" * 3000, "not YAML: a value cannot be read (maximum recursion"),
    ],
)
def test_what_is_not_yaml_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    line = refused(path)
    assert line.startswith(f"{path}: ")
    assert message in line


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert "nowhere.yaml: cannot be read" in refused(tmp_path / "nowhere.yaml")
    assert "cannot be read" in refused(tmp_path)  # a folder


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: caf\xe9".encode("latin-1"))
    assert "latin.yaml: cannot be read ('utf-8' codec can't decode" in refused(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-5", 1e-5), ("1E3", 1000.0), ("-2e+2", -200.0), ("1.5e3", 1500.0), ("1_0e1", 100.0)],
)
def test_exponents_are_numbers_as_in_yaml_1_2(text: str, value: float) -> None:
    assert read_yaml(f"a: {text}", "here") == {"a": value}


@pytest.mark.parametrize("text", ["11-7", "e5", "1e", "1e-x", "ln+attn", "'1e-5'"])
def test_other_words_stay_words(text: str) -> None:
    assert read_yaml(f"a: {text}", "here") == {"a": text.strip("'")}


def test_pyyaml_itself_is_left_as_it_was() -> None:
    assert yaml.safe_load("1e-5") == "1e-5"


# Overrides


@pytest.mark.parametrize(
    ("setting", "key", "value"),
    [
        ("search.trials=3", "search.trials", 3),
        ("search.asha.rungs = 2", "search.asha.rungs", 2),
        ("data.partitions=[1, 50]", "data.partitions", [1, 50]),
        ("name=other", "name", "other"),
        ("data.source=folder:/a=b", "data.source", "folder:/a=b"),
        ("methods.llrd.space.lr=1e-5", "methods.llrd.space.lr", 1e-5),
        ("methods.llrd.default={lr: 2e-3}", "methods.llrd.default", {"lr": 2e-3}),
        ("methods.llrd.space.blocks={choice: [11]}", "methods.llrd.space.blocks", {"choice": [11]}),
        ("features.cache=", "features.cache", None),
    ],
)
def test_settings_override_the_file(file: Path, setting: str, key: str, value: Any) -> None:
    settings = [setting]
    if key == "methods.llrd.space.lr":
        settings.append("methods.llrd.default={}")
    node: Any = load_experiment(file, settings).resolved()
    for piece in key.split("."):
        node = node[piece]
    assert node == value


def test_settings_reach_the_parsed_space(file: Path) -> None:
    settings = ["methods.llrd.space.lr=1e-5", "methods.llrd.default={}"]
    space = load_experiment(file, settings).methods["llrd"].parsed
    assert space.fixed == {"lr": 1e-5}
    assert type(space.fixed["lr"]) is float


def test_later_settings_win_and_options_win_over_settings(file: Path) -> None:
    experiment = load_experiment(
        file, ["seed=1", "seed=2", "search.trials=5"], {"search.trials": 7, "name": "given"}
    )
    assert (experiment.seed, experiment.search.trials, experiment.name) == (2, 7, "given")


def test_a_setting_may_add_a_method(file: Path) -> None:
    experiment = load_experiment(file, ["methods.last={space: {blocks: 11, lr: 1e-4}}"])
    assert experiment.methods["last"].parsed.fixed == {"blocks": "11", "lr": 1e-4}


def test_a_setting_changes_one_user_of_an_anchor(tmp_path: Path) -> None:
    path = tmp_path / "anchors.yaml"
    path.write_text(
        "data: {source: digits}\n"
        "methods:\n"
        "  a: {space: &shared {blocks: none, batch_size: 8}}\n"
        "  b: {space: *shared}\n"
    )
    methods = load_experiment(path, ["methods.a.space.batch_size=16"]).methods
    assert methods["a"].parsed.fixed["batch_size"] == 16
    assert methods["b"].parsed.fixed["batch_size"] == 8


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("seed", "--set 'seed': expected key.path=value"),
        ("=3", "--set '=3': expected key.path=value"),
        ("", "--set '': expected key.path=value"),
        ("seed=[1", "--set seed: line 1, column 3: not YAML"),
        ("seed=*a", "--set seed: line 1, column 1: not YAML"),
        ("data.source.kind=3", "--set 'data.source.kind=3': source holds a value, not keys"),
        ("data=3", "data: Input should be a valid dictionary"),
        ("serach.trials=3", "serach: unknown key; did you mean 'search'?"),
        ("search..trials=3", "search.: unknown key; allowed: trials"),
        ("a\nb=3", "a b: unknown key; allowed: name, seed"),
    ],
)
def test_a_malformed_setting_is_refused(file: Path, setting: str, message: str) -> None:
    assert message in refused(file, setting)


# Mistakes


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
        ("methods.methods={space: {blocks: none}, trails: 3}",
         "methods.methods.trails: unknown key; did you mean 'trials'? allowed: space, default"),
        ("methods.llrd.space.blocs=11", "methods.llrd: blocs: unknown parameter; did you mean"),
        ("methods.llrd.space.lr={unifrom: [1, 2]}", "methods.llrd: lr: expected one distribution"),
        ("methods.llrd.default={llr: 1}", "methods.llrd: default: llr is not in the space"),
        ("zzz=1", "zzz: unknown key; allowed: name, seed"),
    ],
)  # fmt: skip
def test_a_misspelt_key_is_named_with_what_is_allowed(
    file: Path, setting: str, message: str
) -> None:
    line = refused(file, setting)
    assert line.startswith(f"{file}: {message}")


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
        ("search.scheduler=pbt", "search.scheduler: Input should be 'asha' or 'none', got 'pbt'"),
        ("search.sampler=grid", "search.sampler: Input should be 'tpe' or 'random', got 'grid'"),
        ("search=", "search: Input should be a valid dictionary"),
        ("final.seeds=0", "final.seeds: Input should be greater than or equal to 1"),
        ("final.seeds=101", "final.seeds: Input should be less than or equal to 100"),
        ("resources.gpus_per_trial=0", "resources.gpus_per_trial: Input should be greater than 0"),
        ("resources.gpus_per_trial=1.5", "1.5 is neither a share of one GPU nor a whole number"),
        ("resources.gpus_per_trial=.inf", "resources.gpus_per_trial: Input should be a finite"),
        ("resources.cpus_per_trial=.inf", "resources.cpus_per_trial: Input should be a finite"),
        ("resources.cpus_per_trial=.nan", "resources.cpus_per_trial: Input should be a finite"),
        ("features.dtype=int8", "features.dtype: Input should be 'float32' or 'float16'"),
        ("features.batch_size=0", "features.batch_size: Input should be greater than or equal"),
        ("data.partitions=[10, 5]", "data.partitions: partitions must be one or more increasing"),
        ("data.partitions=[33.3333333]",
         "data.partitions: 33.3333333 has more than six significant digits"),
        ("data.source=photos", "data.source: unknown source 'photos'; allowed: digits"),
        ("report.gain=lllrd", "report.gain: no method 'lllrd'; allowed: frozen, llrd, fixed"),
        ("methods={}", "methods: Dictionary should have at least 1 item"),
        ("methods={a b: {space: {blocks: none}}}", "methods: 'a b': letters, digits, _ and - only"),
        ("methods.llrd=", "methods.llrd: Input should be a valid dictionary"),
        ("methods.llrd.space={}", "methods.llrd: space: is empty; name at least `blocks`"),
        ("methods.llrd.trials=0", "methods.llrd.trials: Input should be greater than or equal"),
        ("methods.llrd.space.lr=0", "methods.llrd: lr: 0: Input should be greater than 0"),
        ("methods.llrd.space.lr={uniform: [2, 1]}", "lr: uniform: [2, 1]: low must be below high"),
        ("methods.llrd.space.batch_size={uniform: [8, 16]}", "batch_size: uniform: [8, 16]: whole"),
        ("methods.frozen.space.blocks=11", "methods.frozen: head_lr: several values at once"),
        ("methods.llrd.space.1=2", "methods.llrd: 1: unknown parameter"),
        ("methods={frozen: {space: {1: 2}}}", "Input should be a valid string, got 1"),
    ],
)  # fmt: skip
def test_an_impossible_value_is_refused_with_its_rule(
    file: Path, setting: str, message: str
) -> None:
    line = refused(file, setting)
    assert line.startswith(f"{file}: ")
    assert message in line
    assert "Value error" not in line


def test_the_first_of_several_mistakes_is_told_with_their_number(file: Path) -> None:
    line = refused(file, "seed=-1", "final.seeds=0", "search.trials=0")
    assert line.endswith("(and 2 more)")


def test_data_is_required(tmp_path: Path) -> None:
    path = tmp_path / "no_data.yaml"
    path.write_text(yaml.safe_dump({"methods": {"frozen": FROZEN}}))
    assert refused(path) == f"{path}: data: Field required"


# Methods


def build(methods: dict[str, Any], **more: Any) -> Experiment:
    return Experiment.model_validate(
        {"name": "x", "data": {"source": "digits"}, "methods": methods, **more}
    )


def test_the_probe_is_the_first_frozen_method() -> None:
    methods = {"llrd": LLRD, "one": FROZEN, "two": FROZEN}
    assert build(methods).probe == "one"
    assert build({"zeros": ZEROS}).probe is None


@pytest.mark.parametrize(
    ("blocks", "frozen"),
    [
        ("none", True),
        ({"choice": ["none"]}, True),
        ({"choice": ["none", "none"]}, True),
        ({"choice": ["none", "11"]}, False),
        ("11", False),
        ("all", False),
    ],
)
def test_a_method_is_frozen_if_no_trial_trains_blocks(blocks: Any, frozen: bool) -> None:
    method = build({"m": {"space": {"blocks": blocks}}, "frozen": FROZEN}).methods["m"]
    assert method.frozen_encoder == frozen
    assert method.needs_probe != frozen


@pytest.mark.parametrize(
    ("head_start", "needs"),
    [("probe", True), ("zeros", False), ({"choice": ["zeros", "probe"]}, True)],
)
def test_a_method_needs_a_probe_if_a_trial_may_start_from_it(head_start: Any, needs: bool) -> None:
    space = {"blocks": "11", "head_start": head_start}
    assert build({"frozen": FROZEN, "m": {"space": space}}).methods["m"].needs_probe == needs


def test_a_method_that_needs_a_probe_is_refused_without_one(tmp_path: Path) -> None:
    path = tmp_path / "headless.yaml"
    path.write_text(yaml.safe_dump({"data": {"source": "digits"}, "methods": {"llrd": LLRD}}))
    assert refused(path) == (
        f"{path}: methods.llrd: starts from a probe's head, but no method has blocks: none; "
        "allowed: add one, or head_start: zeros"
    )


def test_selected_methods_keep_their_probe_and_order(file: Path) -> None:
    assert list(load_experiment(file, methods=["fixed", "llrd"]).methods) == [
        "frozen",
        "llrd",
        "fixed",
    ]
    assert list(load_experiment(file, methods=["llrd"]).methods) == ["frozen", "llrd"]
    assert list(load_experiment(file, methods=["frozen"]).methods) == ["frozen"]
    assert list(load_experiment(file).methods) == ["frozen", "llrd", "fixed"]


def test_a_method_that_starts_from_zeros_is_kept_alone(file: Path) -> None:
    selected = load_experiment(file, ["methods.fixed.space.head_start=zeros"], methods=["fixed"])
    assert list(selected.methods) == ["fixed"]


def test_selected_methods_stay_as_they_were(file: Path) -> None:
    whole, part = load_experiment(file), load_experiment(file, methods=["llrd"])
    assert part.methods["llrd"] == whole.methods["llrd"]
    assert part.search == whole.search


@pytest.mark.parametrize(("methods", "gain"), [(["llrd"], "llrd"), (["fixed"], None)])
def test_the_gain_of_a_method_that_is_left_out_is_not_shown(
    file: Path, methods: list[str], gain: str | None
) -> None:
    selected = load_experiment(file, ["report.gain=llrd"], methods=methods)
    assert selected.report.gain == gain


def test_an_unknown_method_is_refused(file: Path) -> None:
    assert refused(file, methods=["lrd"]) == (
        f"--methods 'lrd': not in {file}; did you mean 'llrd'? allowed: frozen, llrd, fixed"
    )


def test_budgets_and_horizons_are_the_methods_own_or_the_searchs() -> None:
    experiment = build(
        {"frozen": {**FROZEN, "samples": 7}, "llrd": LLRD, "fixed": FIXED},
        search={"trials": 9, "samples": 50},
    )
    assert [experiment.trials(m) for m in experiment.methods] == [3, 9, 1]
    assert [experiment.horizon(m) for m in experiment.methods] == [7, 50, 50]


# Whatever is in the file

KEYS = sorted(
    {*Experiment.model_fields, *Recipe.model_fields, "source", "space", "default", "trials", "asha",
     "choice", "uniform", "bank", "when", "otherwise", "quniform", "frozen", "partitions", "a\nb"}
)  # fmt: skip
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
        | st.dictionaries(st.sampled_from(KEYS) | st.integers() | st.text(max_size=3), inner,
                          max_size=4)
    ),
    max_leaves=12,
)  # fmt: skip
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
